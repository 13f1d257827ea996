using System.Net.Sockets;
using Sluice.Machines.Qtest;

namespace Sluice.Machines;

/// <summary>
/// Serves the in-process machine over QEMU's qtest protocol, so that a client written for QEMU drives our silicon as
/// it drives QEMU's.
/// </summary>
public static class MachineServer
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Connects to the socket that the client listens on, as QEMU's <c>-qtest unix:PATH</c> does, and answers until
    /// the client goes.
    /// </summary>
    /// <param name="machine">A deterministic machine with its devices plugged in; stays the caller's.</param>
    /// <param name="path">The client's socket.</param>
    /// <param name="monitorPath">
    /// Another socket of the client's, for the monitor, as QEMU's <c>-qmp unix:PATH</c>: its <c>system_reset</c> resets
    /// the machine, its <c>quit</c> ends this call. Null for none.
    /// </param>
    /// <exception cref="MachineException">Nobody listens there, or the machine is not deterministic.</exception>
    /// <remarks>Until it returns, nobody else may use the machine.</remarks>
    public static void Serve(Machine machine, string path, string? monitorPath = null)
    {
        ArgumentNullException.ThrowIfNull(machine);
        MachineTarget target = new(machine);
        Lock gate = new();
        using Socket socket = Connect(path);
        QtestServer server = new(socket, target, gate);
        if (monitorPath is null)
        {
            server.Serve();
            return;
        }
        using QmpServer monitor = new(
            Connect(monitorPath),
            nanoseconds: () => target.Now,
            reset: () =>
            {
                lock (gate) { target.Reset(); }
            },
            quit: () => socket.Shutdown(SocketShutdown.Both));
        machine.ResetByPort = () => monitor.TellReset(byGuest: true);
        Thread thread = new(monitor.Serve) { IsBackground = true, Name = "monitor" };
        thread.Start();
        try { server.Serve(); }
        finally
        {
            machine.ResetByPort = null;
            monitor.Dispose();
            thread.Join(Patience);
        }
    }

    private static Socket Connect(string path)
    {
        if (path.Length == 0) { throw new MachineException("a socket has a name: none was given"); }
        Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            return socket;
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            socket.Dispose();
            throw new MachineException($"nobody listens on {path}: start the client first", e);
        }
    }
}
