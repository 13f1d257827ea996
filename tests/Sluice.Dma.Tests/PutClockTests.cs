namespace Sluice.Dma.Tests;

public sealed class PutClockTests
{
    // Seen failing: the skipped puts claimed to be exact; fast judged per reading, so slow puts were skipped too.
    [Theory]
    [InlineData(0, true)]
    [InlineData(200, false)]
    [InlineData(5_000, true)]
    public void TimesNeverLieAheadAndSlowPutsAreExact(int nanosecondsPerPut, bool allExact)
    {
        TestClock clock = new() { Nanoseconds = 1_000_000 };
        PutClock puts = default;
        int exactly = 0;
        for (int i = 0; i < 160; i++)
        {
            clock.Nanoseconds += nanosecondsPerPut;
            long time = puts.Read(clock, out bool exact);
            Assert.True(time <= clock.Nanoseconds);
            Assert.True(clock.Nanoseconds - time <= 7 * nanosecondsPerPut);
            Assert.True(!exact || time == clock.Nanoseconds);
            exactly += exact ? 1 : 0;
        }
        Assert.Equal(allExact ? 160 : 21, exactly);
    }

    [Fact]
    public void APauseIsABoundAndNotALie()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(Remapping.InvalidationPolicy.Strict);
        using DmaAdapter adapter = system.CreateAdapter(PciAddress.From(0, 4, 0), new(), "nvme");
        using Mdl mdl = Mdl.Allocate(platform, 4096);
        List<DmaReport> reports = [];
        system.Reported += reports.Add;
        LogicalAddress last = default;
        for (int i = 0; i < 12; i++)
        {
            platform.TestClock.Nanoseconds += i < 11 ? 300 : 5_000_000;
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice,
                out ScatterGatherLease list));
            last = list[0].Address;
            list.Dispose();
        }
        Assert.False(platform.DmaWrite(adapter.Device, last, [1]));
        platform.RunInterrupts();
        system.DeliverReports();
        Assert.Contains("gone for at most 5 ms", Assert.Single(reports).ToString(), StringComparison.Ordinal);
    }
}
