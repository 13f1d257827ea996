using System.Diagnostics;
using System.Globalization;

namespace Sluice.Cli.Tests;

/// <summary>When the command is killed, nothing of it stays.</summary>
public sealed class QemuOrphanTests
{
    private static readonly string[] Public = ["/tmp/", "/var/tmp/", "/dev/shm/", Path.GetTempPath()];

    // Seen failing: QEMU started without exit-with-parent; the memory file with its name left.
    [Fact]
    public void AKilledCommandLeavesNeitherQemuNorFiles()
    {
        QemuRunTests.RequireQemu();
        using TemporaryFile disk = new(1);
        using (FileStream file = new(disk.Path, FileMode.Open)) { file.SetLength(4L << 30); }
        string command = Path.Combine(AppContext.BaseDirectory, "Sluice.Cli.dll");
        ProcessStartInfo start = new("dotnet", [command, "run", "--machine", "qemu", "--disk", disk.Path])
        {
            RedirectStandardOutput = true, RedirectStandardError = true,
        };
        using Process sluice = Process.Start(start)!;
        try
        {
            int qemu = WaitFor(() => Children(sluice.Id).FirstOrDefault(id => OpenFiles(id).Contains(disk.Path)),
                "QEMU opens the disk");
            _ = WaitFor(() => OpenFiles(qemu).Count(IsNameless), "QEMU has its memory in a file without a name");
            string[] named = [.. OpenFiles(qemu).Where(path => path != disk.Path && IsPublic(path))];
            sluice.Kill();
            _ = WaitFor(() => Directory.Exists($"/proc/{qemu}") ? 0 : 1, $"QEMU ({qemu}) ends");
            Assert.Empty(named);
            Assert.Empty(Public.Where(Directory.Exists).SelectMany(folder =>
                Directory.EnumerateFileSystemEntries(folder, $"sluice-qemu-{sluice.Id}-*")));
        }
        finally { sluice.Kill(entireProcessTree: true); }
    }

    private static int WaitFor(Func<int> something, string what)
    {
        long started = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(30))
        {
            if (something() is var found and not 0) { return found; }
            Thread.Sleep(5);
        }
        Assert.Fail($"waited for 30 s, in vain: {what}");
        return 0;
    }

    private static bool IsPublic(string path) =>
        Public.Any(folder => path.StartsWith(folder, StringComparison.Ordinal)) && !IsNameless(path);

    private static bool IsNameless(string path) => path.EndsWith(" (deleted)", StringComparison.Ordinal);

    /// <summary>Where the descriptors of a process lead.</summary>
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
        catch (IOException) { }
        return paths;
    }

    private static IEnumerable<int> Children(int parent)
    {
        try
        {
            return [.. Directory.EnumerateDirectories($"/proc/{parent}/task")
                .SelectMany(static thread => File.ReadAllText($"{thread}/children").Split(' ', TrimEmpty))
                .Select(static id => int.Parse(id, CultureInfo.InvariantCulture))];
        }
        catch (IOException) { return []; }
    }

    private const StringSplitOptions TrimEmpty = StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries;
}
