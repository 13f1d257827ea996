namespace Sluice.Iommu.Tests;

/// <summary>
/// The fault records as a ring: order, overflow, compression, the event, and that nothing is ever uncounted.
/// </summary>
public sealed class FaultLogTests
{
    private const uint Pending = 2;
    private const uint Overflow = 1;

    private static Rig Denying(int records, bool compress = true)
    {
        Rig rig = new(new() { FaultRecords = records, CompressFaults = compress });
        rig.Enable();
        return rig;
    }

    private static ushort SourceOf(Rig rig, int index) => (ushort)rig.Record(index).High;

    // Seen failing: recording into the first free record; FRI of the newest fault.
    [Fact]
    public void RecordsFillInRingOrderAndTheStatusNamesTheFirst()
    {
        using Rig rig = Denying(4);
        for (ushort source = 1; source <= 3; source++) { rig.Physical(source, 0x1000); }
        Assert.Equal(Pending, rig.FaultStatus);
        Assert.Equal(((ushort)1, (ushort)2, (ushort)3), (SourceOf(rig, 0), SourceOf(rig, 1), SourceOf(rig, 2)));
        rig.FreeRecord(0);
        rig.FreeRecord(1);
        Assert.Equal(Pending, rig.FaultStatus);
        rig.FreeRecord(2);
        Assert.Equal(0u, rig.FaultStatus);
        rig.Physical(4, 0x1000);
        rig.Physical(5, 0x1000);
        Assert.Equal(Pending | 3 << 8, rig.FaultStatus);
        Assert.Equal(((ushort)4, (ushort)5), (SourceOf(rig, 3), SourceOf(rig, 0)));
    }

    [Fact]
    public void FreeingARecordClearsOnlyItsValidBit()
    {
        using Rig rig = Denying(1);
        rig.Physical(7, 0x5678, DmaAccess.Write);
        rig.Registers.Write64(0x220, ulong.MaxValue);
        rig.Registers.Write32(0x228, uint.MaxValue);
        rig.Registers.Write32(0x22C, 0x7FFF_FFFF);
        Assert.Equal((0x5000UL, 0x8000_0001_0000_0007UL), rig.Record(0));
        rig.Registers.Write64(0x228, 1UL << 63);
        Assert.Equal((0x5000UL, 0x0000_0001_0000_0007UL), rig.Record(0));
        Assert.Equal(0u, rig.FaultStatus);
    }

    // Seen failing: recording resumed while PFO was set; PFO cleared by freeing a record.
    [Fact]
    public void AfterAnOverflowNothingIsRecordedUntilSoftwareClearsIt()
    {
        using Rig rig = Denying(2);
        for (ushort source = 1; source <= 3; source++) { rig.Physical(source, 0x1000); }
        Assert.Equal(Pending | Overflow, rig.FaultStatus);
        rig.FreeRecord(0);
        rig.FreeRecord(1);
        rig.Physical(4, 0x1000);
        Assert.Equal(Overflow, rig.FaultStatus);
        rig.Registers.Write32(0x34, Overflow);
        rig.Physical(5, 0x1000);
        Assert.Equal(Pending, rig.FaultStatus);
        Assert.Equal(5, SourceOf(rig, 0));
        UnitCounters statistics = rig.Unit.Counters;
        Assert.Equal((3L, 2L, 5L), (statistics.FaultsRecorded, statistics.FaultsLost, statistics.Refused));
    }

    // Seen failing: compression off by comparing the address too.
    [Fact]
    public void ANoisyDeviceCannotHideAQuietOne()
    {
        using Rig rig = Denying(2);
        for (ulong i = 0; i < 10_000; i++) { rig.Physical(0x11, i << 12); }
        rig.Physical(0x22, 0x9000);
        for (ulong i = 0; i < 10_000; i++) { rig.Physical(0x11, i << 12); }
        Assert.Equal(Pending, rig.FaultStatus);
        Assert.Equal(((ushort)0x11, (ushort)0x22), (SourceOf(rig, 0), SourceOf(rig, 1)));
        Assert.Equal(19_999, rig.Unit.Counters.FaultsCompressed);
    }

    // Against a plain model of the rules, whole register state compared after every step.
    // Seen failing: compression checked after the free-record check; the ring index not advanced on wrap.
    [Theory]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(5, true)]
    [InlineData(3, false)]
    public void RandomFaultsAndServicingAgreeWithAModel(int records, bool compress)
    {
        for (int seed = 0; seed < 40; seed++)
        {
            Random random = new(seed);
            using Rig rig = Denying(records, compress);
            ushort?[] model = new ushort?[records];
            int next = 0, lost = 0, compressed = 0, recorded = 0;
            bool overflow = false;
            for (int step = 0; step < 200; step++)
            {
                int choice = random.Next(10);
                if (choice < 6)
                {
                    ushort source = (ushort)random.Next(8);
                    rig.Physical(source, 0x1000);
                    if (overflow) { lost++; }
                    else if (compress && Array.IndexOf(model, (ushort?)source) >= 0) { compressed++; }
                    else if (model[next] is not null) { overflow = true; lost++; }
                    else
                    {
                        model[next] = source;
                        next = (next + 1) % records;
                        recorded++;
                    }
                }
                else if (choice < 9)
                {
                    int index = random.Next(records);
                    rig.FreeRecord(index);
                    model[index] = null;
                }
                else
                {
                    rig.Registers.Write32(0x34, Overflow);
                    overflow = false;
                }
                uint expected = (overflow ? Overflow : 0) | (model.Any(static m => m is not null) ? Pending : 0);
                Assert.Equal(expected, rig.FaultStatus & 0xFF);
                for (int i = 0; i < records; i++)
                {
                    ulong high = rig.Record(i).High;
                    Assert.Equal(model[i], high >> 63 != 0 ? (ushort)high : null);
                }
            }
            UnitCounters statistics = rig.Unit.Counters;
            Assert.Equal(
                (recorded, lost, compressed),
                (statistics.FaultsRecorded, statistics.FaultsLost, statistics.FaultsCompressed));
        }
    }

    // Seen failing: an event for every fault; IP kept after all conditions were cleared.
    [Fact]
    public void OneEventForTheFirstConditionHeldWhileMaskedAndWithdrawnWhenServed()
    {
        using Rig rig = Denying(2);
        rig.Registers.Write64(0x38, 0x0061_0000_0000UL);
        rig.Registers.Write64(0x40, 0xFEE0_3000);
        MsiMessage message = new(new(0xFEE0_3000), 0x61);
        rig.Physical(1, 0x1000);
        rig.Physical(2, 0x1000);
        rig.Physical(3, 0x1000);
        Assert.Equal([message], rig.Delivered);
        rig.FreeRecord(0);
        rig.FreeRecord(1);
        rig.Physical(4, 0x1000);
        Assert.Single(rig.Delivered);
        rig.Registers.Write32(0x34, Overflow);
        rig.Physical(5, 0x1000);
        Assert.Equal(2, rig.Delivered.Count);

        rig.FreeAllRecords();
        rig.Registers.Write32(0x38, 1u << 31);
        rig.Physical(6, 0x1000);
        Assert.Equal((2, 0xC000_0000u), (rig.Delivered.Count, rig.Registers.Read32(0x38)));
        rig.Registers.Write32(0x38, 0);
        Assert.Equal((3, 0u), (rig.Delivered.Count, rig.Registers.Read32(0x38)));

        rig.FreeAllRecords();
        rig.Registers.Write32(0x38, 1u << 31);
        rig.Physical(7, 0x1000);
        rig.FreeAllRecords();
        Assert.Equal(0x8000_0000u, rig.Registers.Read32(0x38));
        rig.Registers.Write32(0x38, 0);
        Assert.Equal(3, rig.Delivered.Count);
    }

    // Seen failing: the lost count incremented outside the lock.
    [Fact]
    public void EveryRefusalOfManyThreadsIsOneCount()
    {
        using Rig rig = Denying(4);
        const int Threads = 3, Each = 30_000;
        Thread[] threads = new Thread[Threads];
        for (int t = 0; t < Threads; t++)
        {
            TranslationPort port = rig.Unit.Connect();
            int seed = t;
            threads[t] = new(() =>
            {
                Random random = new(seed);
                for (int i = 0; i < Each; i++)
                {
                    rig.Translate(port, (ushort)random.Next(6), (ulong)random.NextInt64(), DmaAccess.Write, out _);
                }
            });
            threads[t].Start();
        }
        for (int i = 0; i < 2_000; i++) { rig.FreeAllRecords(); }
        foreach (Thread thread in threads) { thread.Join(); }
        UnitCounters s = rig.Unit.Counters;
        Assert.Equal(Threads * Each, s.Refused);
        Assert.Equal(s.Refused, s.FaultsRecorded + s.FaultsLost + s.FaultsCompressed + s.FaultsSuppressed);
    }
}
