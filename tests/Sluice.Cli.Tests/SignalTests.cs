using System.Globalization;

namespace Sluice.Cli.Tests;

/// <summary>However the command is ended, it ends in order and leaves nothing behind.</summary>
public sealed class SignalTests : IDisposable
{
    private static readonly (string Name, int Number)[] Signals =
        [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15), ("KILL", 9)];

    private readonly TemporaryFile _disk = new(1);

    public SignalTests()
    {
        // Sparse, and large enough to be read until somebody stops it.
        using FileStream file = new(_disk.Path, FileMode.Open);
        file.SetLength(64L << 30);
    }

    public void Dispose() => _disk.Dispose();

    // Seen failing: no handling of signals: the runtime's pipes stay in the temporary folder after TERM and HUP, and a disk
    // that was made with a name stays after all of them. An exit by the thread that hears the signal: the pipes stay in one
    // run of fifty. Signals as they come: a shell's background job never hears INT.
    [Theory]
    [InlineData("HUP", 1)]
    [InlineData("INT", 2)]
    [InlineData("QUIT", 3)]
    [InlineData("TERM", 15)]
    public void ASignalEndsItInOrder(string signal, int number)
    {
        using RunningCommand command = new(diagnostics: true, "run", "--disk", _disk.Path);
        command.AwaitHandlers();
        command.Send(signal);
        Outcome outcome = command.AwaitEnd();
        Assert.Equal((128 + number, "", ""), (outcome.ExitCode, outcome.Output, outcome.Error));
        Assert.Empty(Directory.EnumerateFileSystemEntries(command.Folder));
    }

    // The runtime leaves ignored signals alone, and is held to it here. Seen failing: the trap left out.
    [Fact]
    public void ASignalThatItsParentIgnoresIsNothingToIt()
    {
        using TemporaryFile disk = new(1);
        using (FileStream file = new(disk.Path, FileMode.Open)) { file.SetLength(1L << 30); }
        Outcome outcome = SluiceProcess.Run(
            "trap '' HUP; \"$@\" & while kill -HUP $! 2> /dev/null; do sleep 0.1; done; wait $!",
            ["run", "--disk", disk.Path, "--json"]);
        Assert.Equal((0, ""), (outcome.ExitCode, outcome.Error));
    }

    // Seen failing: QEMU left to the kernel's signal at our end, which a stopped process does not hear.
    [Fact]
    public void AStoppedQemuGoesWithIt()
    {
        QemuRunTests.RequireQemu();
        using RunningCommand command = new(diagnostics: true, "run", "--machine", "qemu", "--disk", _disk.Path);
        int qemu = command.AwaitQemu(_disk.Path);
        RunningCommand.Send("STOP", qemu);
        command.Send("TERM");
        Assert.Equal(143, command.AwaitEnd().ExitCode);
        Assert.Empty(command.AwaitOrphans());
        Assert.Empty(Directory.EnumerateFileSystemEntries(command.Folder));
    }

    // Seen failing: QEMU ended after the threads that wait for its answers, whose end threw: a stopped one stayed; on a busy
    // machine the remapping unit was blamed, which had died of it.
    [Theory]
    [InlineData("STOP", "did not answer")]
    [InlineData("KILL", "signal 9")]
    public void AQemuThatFailsInMidReadIsOneLine(string signal, string expected)
    {
        QemuRunTests.RequireQemu();
        using RunningCommand command = new(diagnostics: true, "run", "--machine", "qemu", "--disk", _disk.Path);
        int qemu = command.AwaitQemu(_disk.Path);
        Thread.Sleep(1000);
        RunningCommand.Send(signal, qemu);
        Assert.Contains(expected, command.AwaitEnd().SingleErrorLine(), StringComparison.Ordinal);
        Assert.Empty(command.AwaitOrphans());
        Assert.Empty(Directory.EnumerateFileSystemEntries(command.Folder));
    }

    // At any moment, on either machine, by any signal. The runtime's own pipes are left out: what comes before our first
    // instruction, or is KILL, it does not get to remove. Seen failing: a disk with a name; QEMU's snapshot file.
    [Fact]
    public void NothingStaysWheneverItIsEnded()
    {
        int runs = int.TryParse(Environment.GetEnvironmentVariable("SLUICE_SIGNALS"), out int wanted) ? wanted : 10;
        int seed = int.TryParse(Environment.GetEnvironmentVariable("SLUICE_SEED"), out int given) ? given : 1;
        bool hasQemu = Machines.Qemu.QemuLauncher.Find() is not null;
        Random random = new(seed);
        string[] before = InPublicFolders();
        for (int run = 0; run < runs; run++)
        {
            (string signal, int number) = Signals[random.Next(Signals.Length)];
            string machine = hasQemu && random.Next(2) == 0 ? "qemu" : "sim";
            int delay = random.Next(1500);
            string[] disk = random.Next(2) == 0 ? ["--disk", _disk.Path] : [];
            using RunningCommand command = new(diagnostics: false, ["run", "--machine", machine, .. disk]);
            Thread.Sleep(delay);
            command.Send(signal);
            Outcome outcome = command.AwaitEnd();
            string what = string.Create(
                CultureInfo.InvariantCulture, $"run {run} of seed {seed}: {machine}, {signal} after {delay} ms: "
                + $"{outcome.ExitCode} {outcome.Error}");
            Assert.True(outcome.ExitCode == 128 + number || (outcome.ExitCode == 0 && disk.Length == 0), what);
            Assert.True(outcome.Error.Length == 0, what);
            Assert.True(command.AwaitOrphans().Length == 0, what);
            Assert.True(!Directory.EnumerateFileSystemEntries(command.Folder).Any(), what);
        }
        Assert.Empty(InPublicFolders().Except(before));
    }

    // What was there before is not ours.
    private static string[] InPublicFolders() =>
    [
        .. new[] { "/dev/shm", "/var/tmp" }.Where(Directory.Exists)
            .SelectMany(static folder => Directory.EnumerateFileSystemEntries(folder, "sluice*")),
    ];
}
