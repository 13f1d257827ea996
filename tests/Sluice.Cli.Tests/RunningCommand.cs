using System.Diagnostics;
using System.Globalization;

namespace Sluice.Cli.Tests;

/// <summary>
/// The command while it runs, with a temporary folder of its own. All that it starts carries a mark in its environment.
/// </summary>
internal sealed class RunningCommand : IDisposable
{
    private const int LongestWaitMilliseconds = 60_000;
    private readonly string _mark = $"SLUICE_TEST_MARK={Guid.NewGuid():N}";
    private readonly Process _process;
    private readonly Task<string> _output;
    private readonly Task<string> _error;

    public RunningCommand(bool diagnostics, params string[] arguments)
    {
        Folder = Directory.CreateTempSubdirectory("sluice-running").FullName;
        ProcessStartInfo start = new(
            "dotnet", [Path.Combine(AppContext.BaseDirectory, "Sluice.Cli.dll"), .. arguments])
        {
            RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true,
        };
        start.Environment["TMPDIR"] = Folder;
        start.Environment["SLUICE_TEST_MARK"] = _mark.Split('=')[1];
        start.Environment["DOTNET_EnableDiagnostics"] = diagnostics ? "1" : "0";
        _process = Process.Start(start)!;
        _output = _process.StandardOutput.ReadToEndAsync();
        _error = _process.StandardError.ReadToEndAsync();
    }

    /// <summary>Its temporary folder.</summary>
    public string Folder { get; }

    /// <summary>The QEMU that it started, once that has opened a disk.</summary>
    public int AwaitQemu(string disk) => Await(
        () => Marked().FirstOrDefault(id => OpenFiles(id).Contains(disk) && IsQemu(id)), "QEMU opens the disk");

    /// <summary>Returns once its own handling of signals is in place (SIGHUP is one that no runtime takes).</summary>
    public void AwaitHandlers() => Await(() => Catches(1) ? 1 : 0, "signals are handled");

    public void Send(string signal) => Send(signal, _process.Id);

    public static void Send(string signal, int id)
    {
        using Process kill = Process.Start(new ProcessStartInfo("kill", [$"-{signal}", $"{id}"])
        {
            RedirectStandardError = true,
        })!;
        kill.WaitForExit();
    }

    /// <summary>Its end.</summary>
    public Outcome AwaitEnd()
    {
        Assert.True(_process.WaitForExit(LongestWaitMilliseconds), "the command did not end");
        return new(_process.ExitCode, _output.GetAwaiter().GetResult(), _error.GetAwaiter().GetResult());
    }

    /// <summary>What it started and left running; a process that was just killed has a moment to go.</summary>
    public int[] AwaitOrphans()
    {
        long started = Stopwatch.GetTimestamp();
        int[] orphans = Marked();
        while (orphans.Length > 0 && Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(5))
        {
            Thread.Sleep(20);
            orphans = Marked();
        }
        return orphans;
    }

    public void Dispose()
    {
        foreach (int id in Marked()) { Send("KILL", id); }
        _process.WaitForExit();
        _process.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    public static int Await(Func<int> something, string what)
    {
        long started = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(started).TotalMilliseconds < LongestWaitMilliseconds)
        {
            if (something() is var found and not 0) { return found; }
            Thread.Sleep(5);
        }
        Assert.Fail($"waited for {LongestWaitMilliseconds} ms, in vain: {what}");
        return 0;
    }

    private int[] Marked() =>
    [
        .. Directory.EnumerateDirectories("/proc").Select(Path.GetFileName)
            .Select(static name => int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) ? id : 0)
            .Where(id => id != 0 && Read($"/proc/{id}/environ").Split('\0').Contains(_mark) && !IsDead(id)),
    ];

    private bool Catches(int signal)
    {
        string line = Read($"/proc/{_process.Id}/status").Split('\n')
            .FirstOrDefault(static line => line.StartsWith("SigCgt:", StringComparison.Ordinal), "SigCgt: 0");
        ulong mask = ulong.Parse(line[7..].Trim(), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
        return (mask >> (signal - 1) & 1) != 0;
    }

    private static bool IsQemu(int id) =>
        Read($"/proc/{id}/cmdline").Contains("intel-iommu", StringComparison.Ordinal);

    private static bool IsDead(int id) => Read($"/proc/{id}/stat") is var stat
        && (stat.Length == 0 || stat[stat.LastIndexOf(')')..].StartsWith(") Z", StringComparison.Ordinal));

    private static string Read(string path)
    {
        try { return File.ReadAllText(path); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return ""; }
    }

    private static List<string> OpenFiles(int id)
    {
        List<string> paths = [];
        try
        {
            foreach (string descriptor in Directory.EnumerateFileSystemEntries($"/proc/{id}/fd"))
            {
                if (new FileInfo(descriptor).LinkTarget is { } target) { paths.Add(target); }
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { }
        return paths;
    }
}
