using System.Diagnostics;
using System.Globalization;

namespace Sluice.Cli.Tests;

/// <summary>
/// The command while it runs, with a temporary folder of its own. All that it starts carries a mark in its environment.
/// </summary>
internal sealed class RunningCommand : IDisposable
{
    private static readonly TimeSpan LongestWait = TimeSpan.FromMinutes(1);
    private readonly string _mark = $"SLUICE_TEST_MARK={Guid.NewGuid():N}";
    private readonly RunningProcess _process;

    public RunningCommand(bool diagnostics, params string[] arguments)
    {
        Folder = Directory.CreateTempSubdirectory("sluice-running").FullName;
        // With the signals as they are by default: what a shell starts in the background ignores some, and so would its
        // children.
        string command = Path.Combine(AppContext.BaseDirectory, "Sluice.Cli.dll");
        ProcessStartInfo start = new("env", ["--default-signal", "dotnet", command, .. arguments]);
        start.Environment["TMPDIR"] = Folder;
        start.Environment["SLUICE_TEST_MARK"] = _mark.Split('=')[1];
        start.Environment["DOTNET_EnableDiagnostics"] = diagnostics ? "1" : "0";
        _process = RunningProcess.Start(start);
    }

    /// <summary>Its temporary folder.</summary>
    public string Folder { get; }

    /// <summary>The QEMU that it started, once that has opened a disk.</summary>
    public int AwaitQemu(string disk) => Await(
        () => Marked().FirstOrDefault(id => OpenFiles(id).Contains(disk) && IsQemu(id)), "QEMU opens the disk");

    /// <summary>Returns once its own handling of signals is in place (SIGHUP is one that no runtime takes).</summary>
    public void AwaitHandlers() => Await(() => Catches(1) ? 1 : 0, "signals are handled");

    public void Send(string signal) => Send(signal, _process.Id);

    public static void Send(string signal, int id) => ChildProcess.Run("kill", $"-{signal}", $"{id}");

    /// <summary>Its end.</summary>
    public Outcome AwaitEnd() => _process.AwaitEnd(LongestWait);

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
        _process.AwaitEnd(LongestWait);
        _process.Dispose();
        Directory.Delete(Folder, recursive: true);
    }

    public static int Await(Func<int> something, string what)
    {
        long started = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(started) < LongestWait)
        {
            if (something() is var found and not 0) { return found; }
            Thread.Sleep(5);
        }
        Assert.Fail($"waited for {LongestWait.TotalSeconds} s, in vain: {what}");
        return 0;
    }

    /// <summary>Where the descriptors of a process lead.</summary>
    public static IReadOnlyList<string> OpenFiles(int id)
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
}
