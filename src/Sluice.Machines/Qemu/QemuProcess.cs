using System.ComponentModel;
using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using Sluice.Machines.Qtest;

namespace Sluice.Machines.Qemu;

/// <summary>
/// A running QEMU under qtest and its connection. Disposing ends it; so does the end of this process, however it comes:
/// the kernel then tells QEMU (<c>exit-with-parent</c>). There is no file to be left over: the socket is an abstract
/// one.
/// </summary>
internal sealed class QemuProcess : IDisposable
{
    private const int MostErrorText = 4096;
    private readonly Process _process;
    private readonly StringBuilder _errors = new();
    private int _disposed;

    private QemuProcess(Process process)
    {
        _process = process;
        AppDomain.CurrentDomain.ProcessExit += OnProcessExit;
    }

    /// <summary>The connection: QEMU has answered on it.</summary>
    public QtestClient Client { get; private set; } = null!;

    /// <summary>
    /// Starts QEMU with <paramref name="arguments"/> plus the qtest ones, and waits until it answers.
    /// </summary>
    /// <param name="launcher">The program.</param>
    /// <param name="arguments">Machine, memory and devices.</param>
    /// <param name="processor">The only processor QEMU may run on, or null.</param>
    /// <param name="timeout">How long the start, and later each answer, may take.</param>
    /// <exception cref="QemuException">It is not there, ended, or did not answer in time.</exception>
    public static QemuProcess Start(
        string launcher, IEnumerable<string> arguments, int? processor, TimeSpan timeout)
    {
        QemuProcess? qemu = null;
        string name = $"sluice-qemu-{Guid.NewGuid():N}";
        try
        {
            using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint($"\0{name}"));
            listener.Listen(1);
            if (Directory.Exists(launcher))
            {
                throw new QemuException($"QEMU did not start: '{launcher}' is a folder");
            }
            string program = processor is null ? launcher : "taskset";
            ProcessStartInfo start = new(program) { RedirectStandardInput = true, RedirectStandardError = true,
                RedirectStandardOutput = true };
            if (processor is { } pinned) { Add(start, "-c", $"{pinned}", launcher); }
            // Every QEMU with the accelerator that we need has exit-with-parent too (eng/qemu.sh asks for 11); an older
            // one says so and ends. Should we die before QEMU has read this far, it finds nobody to connect to.
            Add(start, "-run-with", "exit-with-parent=on", "-accel", "qtest",
                "-qtest", $"unix:{name},abstract=on,tight=on", "-qtest-log", "none", "-display", "none", "-nodefaults");
            foreach (string argument in arguments) { start.ArgumentList.Add(argument); }
            Process process = LastingStarter.Start(start);
            qemu = new(process);
            process.StandardInput.Close();
            process.ErrorDataReceived += qemu.OnErrorLine;
            process.OutputDataReceived += static (_, _) => { };
            process.BeginErrorReadLine();
            process.BeginOutputReadLine();
            qemu.Client = new(qemu.Accept(listener, timeout), timeout, qemu.Autopsy);
            qemu.Client.Command("endianness");
            return qemu;
        }
        catch (Exception e)
        {
            qemu?.Dispose();
            if (e is QemuException) { throw; }
            if (e is Win32Exception { NativeErrorCode: var code })
            {
                // The runtime's own sentence tells of a working directory.
                throw new QemuException($"QEMU did not start: '{launcher}': {new Win32Exception(code).Message}", e);
            }
            throw new QemuException($"QEMU did not start: {e.Message}", e);
        }
    }

    private Socket Accept(Socket listener, TimeSpan timeout)
    {
        long started = Stopwatch.GetTimestamp();
        while (!listener.Poll(20_000, SelectMode.SelectRead))
        {
            if (_process.HasExited) { throw new QemuException($"QEMU did not start: {Autopsy()}"); }
            if (Stopwatch.GetElapsedTime(started) > timeout)
            {
                throw new QemuException($"QEMU did not start within {timeout.TotalSeconds:0} s: {Autopsy()}");
            }
        }
        Socket connection = listener.Accept();
        // An abstract name is anybody's to connect to. And only our own child is told when we end.
        int peer = PeerOf(connection);
        if (peer == _process.Id) { return connection; }
        connection.Dispose();
        throw new QemuException(
            $"QEMU did not start: process {peer} answered, not {_process.Id}; a launcher must 'exec' QEMU");
    }

    /// <summary>The process at the other end (SO_PEERCRED, whose first word it is).</summary>
    private static int PeerOf(Socket connection)
    {
        const int SocketLevel = 1, PeerCredentials = 17;
        Span<byte> credentials = stackalloc byte[12];
        connection.GetRawSocketOption(SocketLevel, PeerCredentials, credentials);
        return BitConverter.ToInt32(credentials);
    }

    /// <summary>How it ended, if it did, and the last thing it said, in one line.</summary>
    private string Autopsy()
    {
        // A closed connection is seen a moment before the end of the process is.
        bool ended = _process.WaitForExit(500);
        if (ended) { _process.WaitForExit(500); }
        string said;
        lock (_errors) { said = _errors.ToString().TrimEnd(); }
        string last = said[(said.LastIndexOf('\n') + 1)..];
        string state = !ended ? "it is still running"
            : _process.ExitCode > 128 ? $"it was ended by signal {_process.ExitCode - 128}"
            : $"it ended with code {_process.ExitCode}";
        return last.Length == 0 ? $"{state} and said nothing" : $"{state} and said '{last}'";
    }

    private void OnErrorLine(object sender, DataReceivedEventArgs line)
    {
        if (line.Data is not { Length: > 0 } text) { return; }
        lock (_errors)
        {
            if (_errors.Length > MostErrorText) { _errors.Remove(0, _errors.Length / 2); }
            _errors.Append(text).Append('\n');
        }
    }

    // The kernel asks QEMU to end when we are gone, and a stopped one does not hear it.
    private void OnProcessExit(object? sender, EventArgs e) => Kill();

    private void Kill()
    {
        try { _process.Kill(); }
        catch (Exception e) when (e is InvalidOperationException or Win32Exception)
        {
            // Gone already.
        }
    }

    /// <summary>Ends QEMU, one that is stopped or hangs too. Bounded: two seconds.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) { return; }
        AppDomain.CurrentDomain.ProcessExit -= OnProcessExit;
        Kill();
        Client?.Dispose();
        _process.WaitForExit(2000);
        _process.Dispose();
    }

    private static void Add(ProcessStartInfo start, params ReadOnlySpan<string> arguments)
    {
        foreach (string argument in arguments) { start.ArgumentList.Add(argument); }
    }
}
