using Sluice.Cli.Run;

namespace Sluice.Cli.Tests;

/// <summary>A disk that somebody changes while it is read is an error of one line, never a hash.</summary>
public sealed class ChangedDiskTests
{
    private const long Bytes = 1 << 30;

    // Seen failing: nobody looked at the file afterwards: QEMU reads zeros past its end, and the answer was a hash.
    [Theory]
    [InlineData(4096, "it became shorter meanwhile, 1073741824 bytes before and 4096 now")]
    [InlineData(0, "it became shorter meanwhile, 1073741824 bytes before and 0 now")]
    [InlineData(Bytes, "somebody wrote to it meanwhile")]
    [InlineData(Bytes + 1, "it became longer meanwhile, 1073741824 bytes before and 1073741825 now")]
    public void QemusZerosAreNotHashed(long length, string expected)
    {
        QemuRunTests.RequireQemu();
        using TemporaryFile disk = Hole();
        using RunningCommand command = new(diagnostics: false, "run", "--machine", "qemu", "--disk", disk.Path, "--json");
        _ = command.AwaitQemu(disk.Path);
        Change(disk, length);
        Assert.Equal(
            $"sluice run: reading {disk.Path} stopped: {expected}", command.AwaitEnd().SingleErrorLine());
    }

    // Seen failing: the length that the file had at first asked of the controller's shorter disk, which ended in "a
    // mistake in sluice"; a hash of what somebody had written to.
    [Theory]
    [InlineData("Sim", 4096, "it became shorter meanwhile, 1073741824 bytes before and 4096 now")]
    [InlineData("Sim", 0, "it became shorter meanwhile, 1073741824 bytes before and 0 now")]
    [InlineData("Sim", Bytes, "somebody wrote to it meanwhile")]
    [InlineData("Qemu", 4096, "it became shorter meanwhile, 1073741824 bytes before and 4096 now")]
    [InlineData("Qemu", 0, "it became shorter meanwhile, 1073741824 bytes before and 0 now")]
    public void NeitherIsWhatChangesBeforeTheMachineStands(string machine, long length, string expected)
    {
        if (machine == "Qemu") { QemuRunTests.RequireQemu(); }
        using TemporaryFile file = Hole();
        using DiskImage disk = DiskImage.At(file.Path);
        Change(file, length);
        RunOptions options = new(
            file.Path, Enum.Parse<MachineKind>(machine), IommuKind.Vtd, Remapping.InvalidationPolicy.Strict,
            512 << 20, Bounce: false, [], Json: true);
        CommandException error = Assert.Throws<CommandException>(() => RunJob.Run(Terminal.Silent, options, disk));
        Assert.Equal($"reading {file.Path} stopped: {expected}", error.Message);
    }

    // Seen failing: the time of the last reading taken for that of the last writing.
    [Fact]
    public void AFileThatNobodyTouchesIsUnchanged()
    {
        using TemporaryFile file = new(4096);
        using DiskImage disk = DiskImage.At(file.Path), made = DiskImage.At(null);
        Assert.Null(disk.Change);
        Assert.Null(made.Change);
        if (!OperatingSystem.IsWindows()) { File.SetUnixFileMode(file.Path, UnixFileMode.UserRead); }
        _ = File.ReadAllBytes(file.Path);
        Assert.Null(disk.Change);
    }

    private static TemporaryFile Hole()
    {
        TemporaryFile disk = new(1);
        using FileStream file = new(disk.Path, FileMode.Open);
        file.SetLength(Bytes);
        // The change comes at another time, however coarse the clock of files is.
        File.SetLastWriteTimeUtc(file.SafeFileHandle, new(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        return disk;
    }

    private static void Change(TemporaryFile disk, long length)
    {
        using FileStream file = new(disk.Path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
        if (length == Bytes) { file.WriteByte(1); }
        file.SetLength(length);
    }
}
