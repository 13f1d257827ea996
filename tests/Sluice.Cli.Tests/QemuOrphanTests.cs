namespace Sluice.Cli.Tests;

/// <summary>When the command is killed, nothing of it stays.</summary>
public sealed class QemuOrphanTests
{
    private static readonly string[] Public = ["/tmp/", "/var/tmp/", "/dev/shm/", Path.GetTempPath()];

    // Seen failing: QEMU started without exit-with-parent; its memory in a file with a name in the temporary folder.
    [Fact]
    public void AKilledCommandLeavesNeitherQemuNorFiles()
    {
        QemuRunTests.RequireQemu();
        using TemporaryFile disk = new(1);
        using (FileStream file = new(disk.Path, FileMode.Open)) { file.SetLength(4L << 30); }
        using RunningCommand command = new(diagnostics: false, "run", "--machine", "qemu", "--disk", disk.Path);
        int qemu = command.AwaitQemu(disk.Path);
        _ = RunningCommand.Await(
            () => RunningCommand.OpenFiles(qemu).Any(IsNameless) ? 1 : 0, "QEMU has its memory in a file without a name");
        // Whoever runs these tests may have files open that everybody inherits.
        string[] named =
        [
            .. RunningCommand.OpenFiles(qemu).Except(RunningCommand.OpenFiles(Environment.ProcessId))
                .Where(path => path != disk.Path && IsPublic(path)),
        ];
        command.Send("KILL");
        Assert.Equal(137, command.AwaitEnd().ExitCode);
        Assert.Empty(command.AwaitOrphans());
        Assert.Empty(named);
        Assert.Empty(Directory.EnumerateFileSystemEntries(command.Folder));
    }

    private static bool IsPublic(string path) =>
        Public.Any(folder => path.StartsWith(folder, StringComparison.Ordinal)) && !IsNameless(path);

    private static bool IsNameless(string path) => path.EndsWith(" (deleted)", StringComparison.Ordinal);
}
