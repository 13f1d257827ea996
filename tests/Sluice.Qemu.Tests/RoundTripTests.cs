using System.Diagnostics;
using Sluice.Machines.Qemu;
using Sluice.Machines.Qtest;

namespace Sluice.Qemu.Tests;

public sealed class RoundTripTests(ITestOutputHelper output)
{
    /// <summary>Not a benchmark: posted commands must beat single ones, else the pipelining is broken.</summary>
    // Seen failing: posted commands sent one by one.
    [Fact]
    public void PostedCommandsAreFasterThanSingleOnes()
    {
        string launcher = Qemu.Require();
        using (var free = QemuMachine.Start(new() { Launcher = launcher, MemoryBytes = 64 << 20 }))
        {
            double one = Rate(free.Qtest, 5_000, posted: false);
            double many = Rate(free.Qtest, 50_000, posted: true);
            output.WriteLine($"single, not pinned {one:N0}/s, posted {many:N0}/s");
        }
        (double single, double posted) = Pin.Run(() =>
        {
            using var pinned = QemuMachine.Start(
                new() { Launcher = launcher, MemoryBytes = 64 << 20, Processor = Pin.Processor });
            return (Rate(pinned.Qtest, 20_000, posted: false), Rate(pinned.Qtest, 50_000, posted: true));
        });
        output.WriteLine($"single, pinned {single:N0}/s, posted {posted:N0}/s");
        Assert.True(posted > single, $"posted {posted:N0}/s, single {single:N0}/s");
    }

    private static double Rate(QtestClient qtest, int count, bool posted)
    {
        PhysicalAddress status = new(0xFED9_001C);
        PhysicalAddress memory = new(0x20_0000);
        for (int i = 0; i < 500; i++) { qtest.Read32(status); }
        long started = Stopwatch.GetTimestamp();
        for (int i = 0; i < count; i++)
        {
            if (posted) { qtest.PostWrite64(memory, (ulong)i); }
            else { qtest.Read32(status); }
        }
        qtest.Flush();
        return count / Stopwatch.GetElapsedTime(started).TotalSeconds;
    }
}
