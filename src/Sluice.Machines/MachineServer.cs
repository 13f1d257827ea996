using System.Net.Sockets;
using Sluice.Machines.Qtest;

namespace Sluice.Machines;

/// <summary>
/// Serves the in-process machine over QEMU's qtest protocol, so that a client written for QEMU drives our silicon as
/// it drives QEMU's.
/// </summary>
public static class MachineServer
{
    /// <summary>
    /// Connects to the socket that the client listens on, as QEMU's <c>-qtest unix:PATH</c> does, and answers until
    /// the client goes.
    /// </summary>
    /// <param name="machine">A deterministic machine with its devices plugged in; stays the caller's.</param>
    /// <param name="path">The client's socket.</param>
    /// <exception cref="MachineException">Nobody listens there, or the machine is not deterministic.</exception>
    public static void Serve(Machine machine, string path)
    {
        ArgumentNullException.ThrowIfNull(machine);
        MachineTarget target = new(machine);
        using Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try { socket.Connect(new UnixDomainSocketEndPoint(path)); }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            throw new MachineException($"nobody listens on {path}: start the client first", e);
        }
        new QtestServer(socket, target).Serve();
    }
}
