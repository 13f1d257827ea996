using System.Diagnostics;
using System.Net.Sockets;
using System.Text;
using Sluice.Machines.Qtest;

namespace Sluice.Machines.Qemu;

/// <summary>
/// A running QEMU under qtest, its connection, and a folder of its own. Disposing ends the process and removes the
/// folder;
/// so does the end of this process, however it comes, because a watching shell holds the other end of a pipe.
/// </summary>
internal sealed class QemuProcess : IDisposable
{
    // The shell is QEMU's parent. It learns of our end, a crash included, from the pipe that is its input; then QEMU
    // goes, and the folder too. It ends only its own child, by its number, before it has waited for it: the number
    // cannot be another's.
    private const string Watcher = """
        folder=$1; shift
        exec 3<&0
        "$@" </dev/null & child=$!
        { cat >/dev/null <&3; kill -9 "$child"; } 2>/dev/null & watch=$!
        wait "$child"; code=$?
        kill "$watch" 2>/dev/null
        exec 3<&-
        rm -rf -- "$folder"
        exit "$code"
        """;

    private const int MostErrorText = 4096;
    private readonly Process _process;
    private readonly StringBuilder _errors = new();
    private readonly string _folder;
    private int _disposed;

    private QemuProcess(Process process, string folder) => (_process, _folder) = (process, folder);

    /// <summary>The connection: QEMU has answered on it.</summary>
    public QtestClient Client { get; private set; } = null!;

    /// <summary>
    /// Starts QEMU with <paramref name="arguments"/> plus the qtest ones, and waits until it answers.
    /// </summary>
    /// <param name="launcher">The program.</param>
    /// <param name="folder">A fresh folder of which this takes ownership, also when it throws.</param>
    /// <param name="arguments">Machine, memory and devices.</param>
    /// <param name="processor">The only processor QEMU may run on, or null.</param>
    /// <param name="timeout">How long the start, and later each answer, may take.</param>
    /// <exception cref="QemuException">It is not there, ended, or did not answer in time.</exception>
    public static QemuProcess Start(
        string launcher, string folder, IEnumerable<string> arguments, int? processor, TimeSpan timeout)
    {
        QemuProcess? qemu = null;
        string path = Path.Combine(folder, "qtest");
        try
        {
            using Socket listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            listener.Listen(1);
            ProcessStartInfo start = new("/bin/sh") { RedirectStandardInput = true, RedirectStandardError = true,
                RedirectStandardOutput = true };
            Add(start, "-c", Watcher, "sluice-qemu", folder);
            if (processor is { } pinned) { Add(start, "taskset", "-c", $"{pinned}"); }
            Add(start, launcher, "-accel", "qtest", "-qtest", $"unix:{path}", "-qtest-log", "none", "-display", "none",
                "-nodefaults");
            foreach (string argument in arguments) { start.ArgumentList.Add(argument); }
            Process process = Process.Start(start) ?? throw new QemuException("no shell to start QEMU with");
            qemu = new(process, folder);
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
            RemoveFolder(folder);
            if (e is QemuException) { throw; }
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
        return listener.Accept();
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

    /// <summary>Ends QEMU and removes the folder. Bounded: two seconds for the shell to do it, then by force.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) { return; }
        Client?.Dispose();
        try { _process.StandardInput.Close(); }
        catch (IOException) { }
        if (!_process.WaitForExit(2000))
        {
            _process.Kill(entireProcessTree: true);
            _process.WaitForExit(2000);
        }
        _process.Dispose();
        RemoveFolder(_folder);
    }

    private static void RemoveFolder(string folder)
    {
        try { Directory.Delete(folder, recursive: true); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { }
    }

    private static void Add(ProcessStartInfo start, params ReadOnlySpan<string> arguments)
    {
        foreach (string argument in arguments) { start.ArgumentList.Add(argument); }
    }
}
