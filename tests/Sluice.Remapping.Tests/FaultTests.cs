using Sluice.Formats.Vtd;
using Sluice.Iommu;
using Sluice.Iommu.Vtd;

namespace Sluice.Remapping.Tests;

public sealed class FaultTests
{
    private static readonly PciAddress Noisy = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Quiet = PciAddress.From(0, 5, 1);
    private static readonly PciAddress Stranger = PciAddress.From(9, 31, 7);

    [Fact]
    public void AFaultArrivesInTheWordsOfTheHouse()
    {
        using TestPlatform platform = new();
        FaultList faults = new();
        using RemappingSystem system = platform.Start(faults);
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Noisy);
        platform.TestClock.Advance(1234);
        Assert.Null(platform.Reach(Noisy, new(0x1234_5678), DmaAccess.Write));
        Assert.Null(platform.Reach(Stranger, new(0x9_8765_4321), DmaAccess.Read));
        Assert.Empty(faults.Faults);
        platform.RunInterrupts();
        long now = platform.TestClock.Nanoseconds;
        Assert.Equal(
            [
                new DmaFault(Noisy, new(0x1234_5000), 12, DmaAccess.Write, FaultCause.AccessDenied, 5,
                    "VT-d reason 0x05, write permission", now),
                new DmaFault(Stranger, new(0x9_8765_4000), 12, DmaAccess.Read, FaultCause.NotAttached, 1,
                    "VT-d reason 0x01, root entry not present", now),
            ],
            faults.Faults);
        Assert.Equal(2, system.Statistics.Faults);
        Assert.Equal(0, platform.Strays);
    }

    // Seen failing: Drain clearing the overflow bit without ReportLoss, and ReadRecords that ended after one record.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(8)]
    [InlineData(100)]
    public void EveryRefusalIsARecordOrTheKnowledgeOfALoss(int records)
    {
        using TestPlatform platform = new(
            new VtdOptions { FaultRecords = records, CompressFaults = false, FaultRecordOffset = 0x400 });
        FaultList faults = new();
        using RemappingSystem system = platform.Start(faults, new() { FaultBurst = 1 << 20 });
        Random random = new(records);
        for (int burst = 0; burst < 200; burst++)
        {
            int expected = random.Next(1, 2 * records + 2);
            int before = faults.Faults.Count;
            ulong lost = faults.Lost;
            for (int i = 0; i < expected; i++)
            {
                Assert.Null(platform.Reach(new(0, new((ushort)random.Next(0x1_0000))),
                    new((ulong)random.Next() << 12), DmaAccess.Read));
            }
            platform.RunInterrupts();
            int reported = faults.Faults.Count - before;
            Assert.Equal(Math.Min(records, expected), reported);
            Assert.Equal(expected > records, faults.Lost > lost);
        }
        UnitCounters silicon = platform.Unit.Counters;
        Assert.Equal(silicon.FaultsRecorded, system.Statistics.Faults);
        Assert.True((ulong)silicon.FaultsLost >= faults.Lost, "losses are a lower bound");
    }

    // Seen failing: FaultStorms.Begin without TrySilence: the quiet device's fault found no free record.
    // Seen failing: TrySilence that refuses devices without a domain: the stranger hid the quiet one.
    // Seen failing: the end of a silence counted as a loss that the unit never spoke of; a drain that said true in it.
    [Theory]
    [InlineData(true, false)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    public void ANoisyDeviceCannotHideAQuietOneAndItsOwnLossIsKnown(bool attached, bool cachingMode)
    {
        using TestPlatform platform = new(
            new VtdOptions { CachingMode = cachingMode, CompressFaults = false, FaultRecords = 2 });
        FaultList faults = new();
        using RemappingSystem system = platform.Start(faults);
        system.Attach(system.CreateDomain(new()), Quiet);
        if (attached) { system.Attach(system.CreateDomain(new()), Noisy); }
        PciAddress noisy = attached ? Noisy : Stranger;
        for (int i = 0; i < 300; i++)
        {
            platform.Reach(noisy, new(0x5000), DmaAccess.Write);
            platform.RunInterrupts();
        }
        Assert.Equal(1, system.Statistics.Storms);
        int heard = faults.Faults.Count(fault => fault.Device == noisy);
        Assert.InRange(heard, 64, 80);
        ulong lost = faults.Lost;
        for (int i = 0; i < 50; i++)
        {
            // Many of the noisy device, no interrupt in between, and one of the quiet one.
            for (int j = 0; j < 20; j++) { Assert.Null(platform.Reach(noisy, new(0x5000), DmaAccess.Write)); }
            Assert.Null(platform.Reach(Quiet, new((ulong)(i + 1) << 12), DmaAccess.Read));
            platform.RunInterrupts();
        }
        Assert.Equal(50, faults.Faults.Count(fault => fault.Device == Quiet));
        Assert.Equal(heard, faults.Faults.Count(fault => fault.Device == noisy));
        Assert.Equal(lost, faults.Lost);
        Assert.Empty(faults.Silenced);
        // What the storm hides is in no count yet.
        Assert.False(system.DrainFaults());

        platform.TestClock.Advance(200_000_000);
        Assert.Equal(noisy, Assert.Single(faults.Silenced));
        Assert.Equal((1L, lost), (system.Statistics.SilencedStorms, faults.Lost));
        Assert.True(system.DrainFaults());
        platform.Reach(noisy, new(0x5000), DmaAccess.Write);
        platform.RunInterrupts();
        Assert.Equal(heard + 1, faults.Faults.Count(fault => fault.Device == noisy));
    }

    // Seen failing: Publish of the plain entry during a storm: the device was loud again after the attach.
    [Fact]
    public void AStormOutlivesAttachAndDetachAndNothingGetsThroughBecauseOfIt()
    {
        using TestPlatform platform = new();
        FaultList faults = new();
        using RemappingSystem system = platform.Start(faults, new() { FaultBurst = 4 });
        Storm();
        int heard = faults.Faults.Count;
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Noisy);
        DomainMapping mapping = domain.MustMap(platform.Buffers(1), DmaAccess.Read);
        Assert.NotNull(platform.Reach(Noisy, mapping.First, DmaAccess.Read));
        Storm();
        system.Detach(Noisy);
        Assert.Null(platform.Reach(Noisy, mapping.First, DmaAccess.Read));
        Storm();
        Assert.Equal(heard, faults.Faults.Count);
        platform.TestClock.Advance(200_000_000);
        Assert.Null(platform.Reach(Noisy, mapping.First, DmaAccess.Read));
        platform.RunInterrupts();
        Assert.Equal(heard + 1, faults.Faults.Count);

        void Storm()
        {
            for (int i = 0; i < 20; i++)
            {
                Assert.Null(platform.Reach(Noisy, new(0x77_7000), DmaAccess.Read));
                platform.RunInterrupts();
            }
        }
    }

    // Seen failing: the bound on passes removed: the handler never returned.
    [Fact]
    public void OneInterruptIsBoundedThoughFaultsNeverEndAndTheTimerGoesOn()
    {
        using TestPlatform platform = new(new VtdOptions { FaultRecords = 1, CompressFaults = false });
        FaultList faults = new();
        using RemappingSystem system = platform.Start(faults, new() { FaultBurst = 1 << 20, FaultPasses = 3 });
        bool storming = true;
        ushort next = 0;
        platform.Registers.OnRead = _ =>
        {
            // Whenever the handler looks there is another fault.
            if (storming) { platform.Reach(new(0, new(next++)), new(0x5000), DmaAccess.Write); }
            return null;
        };
        platform.Reach(Noisy, new(0x5000), DmaAccess.Write);
        platform.RunInterrupts(once: true);
        Assert.InRange(faults.Faults.Count, 1, 6);
        storming = false;
        platform.TestClock.Advance(10_000_000);
        platform.RunInterrupts();
        uint status = platform.Registers.Read32(VtdRegister.FaultStatus);
        Assert.Equal(0u, status & (VtdFaultStatus.Pending | VtdFaultStatus.Overflow));
        int heard = faults.Faults.Count;
        platform.Reach(Quiet, new(0x6000), DmaAccess.Write);
        platform.RunInterrupts();
        Assert.Equal(heard + 1, faults.Faults.Count);
    }

    [Fact]
    public void ReadingFaultsAllocatesNothing()
    {
        using TestPlatform platform = new();
        CountingSink faults = new();
        using RemappingSystem system = platform.Start(faults, new() { FaultBurst = 1 << 20 });
        system.Attach(system.CreateDomain(new()), Noisy);
        Turn(platform);
        long before = HeapMeter.Now;
        Turn(platform);
        HeapMeter.AssertNone(before);
        Assert.Equal(4_000, faults.Count);

        static void Turn(TestPlatform platform)
        {
            for (int i = 0; i < 2_000; i++)
            {
                platform.Reach(Noisy, new(0x5000), DmaAccess.Write);
                platform.RunInterrupts();
            }
        }
    }

    private sealed class CountingSink : IFaultSink
    {
        public int Count { get; private set; }

        public void OnFault(in DmaFault fault) => Count++;

        public void OnFaultsLost(ulong atLeast)
        {
        }
    }
}
