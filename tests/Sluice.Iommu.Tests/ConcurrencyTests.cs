using System.Diagnostics;

namespace Sluice.Iommu.Tests;

/// <summary>
/// Real threads: drain, the fill race, torn entries, mixed cache words; and no allocation anywhere on the road.
/// </summary>
public sealed class ConcurrencyTests
{
    private const ushort Disk = 0x0020;

    // A device writes through a page as fast as it can; the page is unmapped, invalidated, given to a new owner, who
    // must not see one more store. Seen failing: no drain; no epoch check in the fill; the epoch read
    // after the walk.
    [Fact]
    public void AfterAnInvalidationNoStoreThroughTheOldEntryLands()
    {
        using Rig rig = new(new() { IotlbSetsLog2 = 0, IotlbWays = 3 });
        ulong leaf = rig.Map(rig.Attach(Disk, 1), 3, 0x4000_0000, 0);
        const ulong Frame = 0x80_0000;
        rig.Poke(leaf, 0);
        rig.Enable();
        bool stop = false;
        long stores = 0;
        Thread device = new(() =>
        {
            TranslationPort port = rig.Unit.Connect("device");
            DmaRequest write = new(Rig.Source(Disk), new(0x4000_0000), DmaAccess.Write);
            while (!Volatile.Read(ref stop))
            {
                port.Enter();
                if (rig.Unit.TryTranslate(port, write, out PhysicalRun run))
                {
                    rig.Memory.TryWrite64(run.First, 0xDEAD);
                    stores++;
                }
                port.Exit();
            }
        });
        device.Start();
        const int Rounds = 100_000;
        int late = 0;
        long start = Stopwatch.GetTimestamp();
        for (uint round = 0; round < Rounds && Stopwatch.GetElapsedTime(start).TotalSeconds < 6; round++)
        {
            rig.Poke(leaf, Frame | 3);
            if (round % 64 == 0) { Thread.Yield(); }
            else { Thread.SpinWait((int)(round % 16)); }
            rig.Poke(leaf, 0);
            rig.SubmitAndWait((0x32 | 1UL << 16, 0x4000_0000UL));
            rig.Poke(Frame, 0x600D);
            Thread.SpinWait(8);
            if (rig.Peek(Frame) != 0x600D) { late++; }
        }
        stop = true;
        device.Join();
        Assert.Equal(0, late);
        Assert.True(stores > 100, "the devices never got through, so nothing was tested");
    }

    // A context entry flips between two address spaces; the halves of both, mixed, lead to marked frames.
    // Seen failing: the low word not read again.
    [Fact]
    public void TornContextEntriesAreNeverAccepted()
    {
        using Rig rig = new();
        ulong a = rig.Attach(Disk, 1, topLevel: 2), b = rig.Table();
        rig.Map(a, 2, 0, 0x80_0000);
        rig.Map(b, 3, 0x1000, 0x90_0000);
        // With the other width the same address ends elsewhere: 3 levels from b, 4 levels from a.
        rig.Map(b, 2, 0x40_0000_0000 - 0x1000, 0xBAD_0000);
        const ulong Logical = 0x1000;
        rig.Map(a, 2, Logical, 0xA0_0000);
        ulong firstOfB = rig.Peek(b) & ~0xFFFUL, firstOfA = rig.Peek(a) & ~0xFFFUL;
        ulong secondOfA = rig.Peek(firstOfA) & ~0xFFFUL, secondOfB = rig.Peek(firstOfB) & ~0xFFFUL;
        // a read with 4 levels goes one table deeper than its leaves; b read with 3 levels stops one table early.
        rig.Poke(secondOfA, rig.Table() | 3);
        rig.Poke((rig.Peek(secondOfA) & ~0xFFFUL) + 8, 0xBAD_0003);
        rig.Poke(secondOfB + 8, 0xBAD_1003);
        rig.Enable();
        ulong context = rig.ContextAt(Disk);
        ulong[] lows = [a | 1, b | 1], highs = [1 << 8 | 1, 2 << 8 | 2];
        bool stop = false;
        int torn = 0, whole = 0;
        Thread device = new(() =>
        {
            TranslationPort port = rig.Unit.Connect();
            while (!Volatile.Read(ref stop))
            {
                if (!rig.Translate(port, Disk, Logical, DmaAccess.Read, out PhysicalRun run)) { continue; }
                if (run.First.Value is 0xA0_0000 or 0x90_0000) { whole++; }
                else { torn++; }
            }
        });
        device.Start();
        long start = Stopwatch.GetTimestamp();
        for (int round = 0; round < 200_000 && Stopwatch.GetElapsedTime(start).TotalSeconds < 3; round++)
        {
            rig.Poke(context, 0);
            rig.Poke(context + 8, highs[round & 1]);
            rig.Poke(context, lows[round & 1]);
            if (round % 32 == 0) { Thread.Yield(); }
            rig.SubmitAndWait((0x11UL, 0UL), (0x12UL, 0UL));
        }
        stop = true;
        device.Join();
        Assert.Equal(0, torn);
        Assert.True(whole > 100, "the device never got through, so nothing was tested");
    }

    // A cache of one set, fought over by two threads: every answer must belong to the page asked for.
    // Seen failing: the version check replaced by nothing; by a second look at the key.
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void CacheWordsAreNeverMixed(int ways)
    {
        using Rig rig = new(new() { IotlbSetsLog2 = 0, IotlbWays = ways });
        ulong table = rig.Attach(Disk, 1);
        const int Pages = 8;
        for (ulong i = 0; i < Pages; i++) { rig.Map(table, 3, i << 12, (i * 7 + 3) << 24); }
        rig.Enable();
        int wrong = 0;
        Thread[] threads = [.. Enumerable.Range(0, 2).Select(seed => new Thread(() =>
        {
            TranslationPort port = rig.Unit.Connect();
            Random random = new(seed);
            for (int i = 0; i < 400_000; i++)
            {
                ulong page = (ulong)random.Next(Pages);
                bool passed = rig.Translate(port, Disk, page << 12, DmaAccess.Read, out PhysicalRun run);
                if (!passed || run.First.Value != (page * 7 + 3) << 24)
                {
                    Interlocked.Increment(ref wrong);
                }
            }
        }))];
        foreach (Thread thread in threads) { thread.Start(); }
        foreach (Thread thread in threads) { thread.Join(); }
        Assert.Equal(0, wrong);
    }

    // Seen failing: the status stored before the drain.
    [Fact]
    public void AnInvalidationCompletesOnlyAfterTheDmaInFlight()
    {
        using Rig rig = new();
        rig.Enable();
        using ManualResetEventSlim entered = new(), leave = new();
        Thread device = new(() =>
        {
            rig.Port.Enter();
            entered.Set();
            leave.Wait();
            rig.Port.Exit();
        });
        device.Start();
        entered.Wait();
        Thread processor = new(() => rig.Submit((0x12UL, 0UL), (0x25 | 9UL << 32, Rig.Status)));
        processor.Start();
        Assert.False(processor.Join(50));
        Assert.Equal(0UL, rig.Peek(Rig.Status));
        leave.Set();
        Assert.True(processor.Join(5_000));
        Assert.Equal(9UL, rig.Peek(Rig.Status));
        Assert.Equal(1, rig.Unit.Counters.DrainsDelayed);
        device.Join();
    }

    // Seen failing: translation off first, and no drain: a DMA that had begun before went to the address it asked for.
    [Fact]
    public void AResetWaitsForTheDmaInFlightWhichIsStillTranslated()
    {
        using Rig rig = new();
        rig.Map(rig.Attach(Disk, 1), 3, 0x4000_0000, 0x80_0000);
        rig.Enable();
        using ManualResetEventSlim entered = new(), translate = new();
        PhysicalRun run = default;
        Thread device = new(() =>
        {
            rig.Port.Enter();
            entered.Set();
            translate.Wait(5_000);
            _ = rig.Unit.TryTranslate(rig.Port, new(Rig.Source(Disk), new(0x4000_0000), DmaAccess.Write), out run);
            rig.Port.Exit();
        });
        device.Start();
        Assert.True(entered.Wait(5_000));
        Thread processor = new(rig.Unit.Reset);
        processor.Start();
        Assert.False(processor.Join(50));
        translate.Set();
        Assert.True(processor.Join(5_000));
        device.Join();
        Assert.Equal(0x80_0000UL, run.First.Value);
        Assert.Equal(0x4000_0000UL, rig.Physical(Disk, 0x4000_0000));
    }

    [Fact]
    public void ADmaThatNeverEndsIsNamedAndNothingIsCompleted()
    {
        using Rig rig = new(new() { DrainLimit = TimeSpan.FromMilliseconds(20) });
        rig.Enable();
        TranslationPort stuck = rig.Unit.Connect("stuck nic");
        Thread device = new(stuck.Enter);
        device.Start();
        device.Join();
        var thrown = Assert.Throws<InvalidOperationException>(
            () => rig.Submit((0x12UL, 0UL), (0x25 | 9UL << 32, Rig.Status)));
        Assert.Contains("stuck nic", thrown.Message, StringComparison.Ordinal);
        Assert.Equal((0UL, 0x10UL), (rig.Peek(Rig.Status), rig.Registers.Read64(0x80)));
        Assert.Equal(1, rig.Unit.Counters.DrainsTimedOut);
        stuck.Exit();
        rig.Registers.Write64(0x88, 0x20);
        Assert.Equal((9UL, 0x20UL), (rig.Peek(Rig.Status), rig.Registers.Read64(0x80)));
    }

    [Fact]
    public void ADeviceThatInvalidatesInsideItsOwnDmaIsToldSo()
    {
        using Rig rig = new();
        rig.Enable();
        rig.Port.Enter();
        var thrown = Assert.Throws<InvalidOperationException>(() => rig.Submit((0x12UL, 0UL)));
        Assert.Contains("its own DMA", thrown.Message, StringComparison.Ordinal);
        rig.Port.Exit();
    }

    // Seen failing: a string made in the register path; a boxed enum in the fault path.
    [Fact]
    public void TranslatingMissingFaultingAndInvalidatingAllocateNothing()
    {
        using Rig rig = new(new() { IotlbSetsLog2 = 0, IotlbWays = 1, CompressFaults = false });
        ulong table = rig.Attach(Disk, 1);
        rig.Map(table, 3, 0x1000, 0x80_0000);
        rig.Map(table, 3, 0x2000, 0x90_0000);
        rig.Enable();
        for (ulong at = 0; at < 0x1000; at += 0x20)
        {
            rig.Poke(Rig.Queue + at, 0x32 | 1UL << 16);
            rig.Poke(Rig.Queue + at + 0x10, 0x25 | 1UL << 32);
            rig.Poke(Rig.Queue + at + 0x18, Rig.Status);
        }
        long before = 0;
        for (int i = 0; i < 3_000; i++)
        {
            if (i == 1_000) { before = HeapMeter.Now; }
            rig.Translate(Disk, 0x1000, DmaAccess.Read, out _);
            rig.Translate(Disk, 0x1000, DmaAccess.Write, out _);
            rig.Translate(Disk, 0x2000, DmaAccess.Write, out _);
            rig.Translate(Disk, 0x3000, DmaAccess.Write, out _);
            rig.Registers.Write32(0x22C, 1u << 31);
            rig.Registers.Write64(0x88, (rig.Registers.Read64(0x88) + 0x20) & 0xFFF);
        }
        HeapMeter.AssertNone(before);
        Assert.True(rig.Port.Misses > 4_000 && rig.Port.Hits > 2_000);
        Assert.Equal((3_000L, 3_000L), (rig.Unit.Counters.IotlbInvalidations, rig.Unit.Counters.Waits));
    }
}
