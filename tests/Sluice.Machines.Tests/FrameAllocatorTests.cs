namespace Sluice.Machines.Tests;

public sealed class FrameAllocatorTests
{
    private const ulong Page = 4096;

    // Seen failing: without the look at the frame before (IsBesideLast), seed 3 hands out neighbours in a row.
    [Fact]
    public void SingleFramesAreNeverContiguous()
    {
        for (int seed = 1; seed <= 20; seed++)
        {
            using Machine machine = Fixtures.Stepped(seed, 16 << 20);
            PhysicalAddress before = machine.Frame();
            for (int i = 0; i < 2000; i++)
            {
                PhysicalAddress next = machine.Frame();
                Assert.NotEqual(before + Page, next);
                Assert.NotEqual(before - Page, next);
                before = next;
            }
        }
    }

    // Seen failing: FindSingle never opening the blocks that are kept for runs.
    [Fact]
    public void EveryFrameIsHandedOutOnceAndThenThereIsNone()
    {
        using Machine machine = Fixtures.Stepped(7, 16 << 20);
        HashSet<PhysicalAddress> seen = [];
        while (machine.Frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress frame))
        {
            Assert.True(seen.Add(frame));
            Assert.InRange(frame.Value, 0x10_0000UL, (16UL << 20) - 1);
            Assert.True(frame.IsAligned(12));
        }
        // 15 MiB, less the firmware's 64 KiB and six kernel pages.
        Assert.Equal((15 << 8) - 16 - 6, seen.Count);
        Assert.Equal(0, ((FrameAllocator)machine.Frames).FreeFrames);
        machine.Frames.Free(seen.First(), 12);
        Assert.Equal(seen.First(), machine.Frame());
    }

    // Seen failing: TryAllocate without the Clear.
    [Fact]
    public void FramesComeZeroedAndOfTheKindAskedFor()
    {
        using Machine machine = Fixtures.Stepped();
        byte[] bytes = new byte[Page];
        for (int i = 0; i < 3000; i++)
        {
            FrameKind kind = (i % 3) switch { 0 => FrameKind.Buffer, 1 => FrameKind.UnitTable, _ => FrameKind.Kernel };
            PhysicalAddress frame = machine.Frame(kind);
            Assert.Equal(kind, machine.Frames.KindOf(frame + 0xFFF));
            Assert.True(machine.Memory.TryRead(frame, bytes));
            Assert.Equal(-1, bytes.AsSpan().IndexOfAnyExcept((byte)0));
            bytes.AsSpan().Fill(0xA5);
            machine.Memory.TryWrite(frame, bytes);
            machine.Frames.Free(frame, 12);
            Assert.Equal(FrameKind.Free, machine.Frames.KindOf(frame));
        }
    }

    // Seen failing: IsForRuns always false, so that singles break every block.
    [Fact]
    public void RunsAreAlignedDisjointAndSurviveManySingles()
    {
        using Machine machine = Fixtures.Stepped(5, 64 << 20);
        HashSet<ulong> pages = [];
        for (int i = 0; i < 4000; i++) { Assert.True(pages.Add(machine.Frame().Value / Page)); }
        for (int sizeLog2 = 21; sizeLog2 >= 13; sizeLog2--)
        {
            Assert.True(
                machine.Frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress first),
                $"no run of 2^{sizeLog2}");
            Assert.True(first.IsAligned(sizeLog2));
            for (ulong page = 0; page < 1UL << (sizeLog2 - 12); page++)
            {
                Assert.True(pages.Add(first.Value / Page + page));
            }
        }
        Assert.False(machine.Frames.TryAllocate(FrameKind.Buffer, 26, out _));
    }

    // Seen failing: Limit taking all frames for an address below 4 GiB.
    [Fact]
    public void TheHighestAddressAskedForIsKept()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 0xC000_0000, Deterministic = true });
        for (int i = 0; i < 2000; i++)
        {
            Assert.True(machine.Frame(last: 0xFFFF_FFFF) + 0xFFF <= new PhysicalAddress(0xFFFF_FFFF));
            Assert.True(machine.Frame(last: 0xFF_FFFF) + 0xFFF <= new PhysicalAddress(0xFF_FFFF));
        }
        PhysicalAddress below = new(0xFFFF_FFFF);
        Assert.True(machine.Frames.TryAllocate(FrameKind.Buffer, 21, out PhysicalAddress run, below));
        Assert.True(run.Value + 0x1F_FFFF <= 0xFFFF_FFFF);
        Assert.False(machine.Frames.TryAllocate(FrameKind.Buffer, 12, out _, new PhysicalAddress(0xF_FFFF)));
        Assert.False(machine.Frames.TryAllocate(FrameKind.Buffer, 12, out _, new PhysicalAddress(0)));
    }

    // What lies below 4 GiB is kept for who reaches no further, until there is nothing else.
    [Fact]
    public void HighMemoryGoesFirst()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 0xB000_0000, Deterministic = true });
        IFrameAllocator frames = machine.Frames;
        for (int i = 0; i < 500; i++) { Assert.True(machine.Frame().Value >= 0x1_0000_0000); }
        int high = 0, low = 0;
        while (frames.TryAllocate(FrameKind.Buffer, 21, out PhysicalAddress run) && run.Value >= 0x1_0000_0000)
        {
            high++;
        }
        // One block in eight of 384 is kept for runs.
        Assert.InRange(high, 48, 0x3000_0000 >> 21);
        while (low == 0 && frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress frame))
        {
            low += frame.Value < 0x1_0000_0000 ? 1 : 0;
        }
        Assert.Equal(1, low);
    }

    // Seen failing: Free without the look at Free.
    [Fact]
    public void WrongFreesAreRefusedAndChangeNothing()
    {
        using Machine machine = Fixtures.Stepped();
        IFrameAllocator frames = machine.Frames;
        PhysicalAddress frame = machine.Frame();
        Assert.True(frames.TryAllocate(FrameKind.Buffer, 14, out PhysicalAddress run));
        int free = ((FrameAllocator)frames).FreeFrames;
        Assert.Throws<InvalidOperationException>(() => frames.Free(new(0), 12));
        Assert.Throws<InvalidOperationException>(() => frames.Free(new(1UL << 40), 12));
        Assert.Throws<InvalidOperationException>(() => frames.Free(frame + 1, 12));
        Assert.Throws<InvalidOperationException>(() => frames.Free(run, 11));
        Assert.Throws<InvalidOperationException>(() => frames.Release(frame));
        Assert.Throws<ArgumentOutOfRangeException>(() => frames.TryAllocate(FrameKind.Free, 12, out _));
        Assert.Equal(free, ((FrameAllocator)frames).FreeFrames);
        frames.Free(frame, 12);
        var twice = Assert.Throws<InvalidOperationException>(() => frames.Free(frame, 12));
        Assert.Contains("free already", twice.Message, StringComparison.Ordinal);
        frames.Free(run, 14);
        Assert.Equal(free + 5, ((FrameAllocator)frames).FreeFrames);
    }

    // Seen failing: Release making the frame Buffer instead of Free.
    [Fact]
    public void AQuarantinedFrameComesBackOnlyAfterItsRelease()
    {
        using Machine machine = Fixtures.Stepped(3, 16 << 20);
        IFrameAllocator frames = machine.Frames;
        PhysicalAddress leaked = machine.Frame();
        frames.Quarantine(leaked + 5);
        Assert.Equal(1, frames.QuarantinedFrames);
        Assert.Throws<InvalidOperationException>(() => frames.Free(leaked, 12));
        Assert.Throws<InvalidOperationException>(() => frames.Quarantine(leaked));
        while (frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress other)) { Assert.NotEqual(leaked, other); }
        frames.Release(leaked);
        Assert.Equal(0, frames.QuarantinedFrames);
        Assert.Equal(leaked, machine.Frame());
    }

    // Seen failing: Reclaim making the frame Free instead of Buffer.
    [Fact]
    public void AReclaimedFrameIsItsOwnersAgain()
    {
        using Machine machine = Fixtures.Stepped(3, 16 << 20);
        FrameAllocator frames = (FrameAllocator)machine.Frames;
        PhysicalAddress leaked = machine.Frame();
        int free = frames.FreeFrames;
        Assert.Throws<InvalidOperationException>(() => frames.Reclaim(leaked));
        frames.Quarantine(leaked);
        frames.Reclaim(leaked + 5);
        Assert.Equal((FrameKind.Buffer, 0, free), (frames.KindOf(leaked), frames.QuarantinedFrames, frames.FreeFrames));
        frames.Free(leaked, 12);
        Assert.Equal(free + 1, frames.FreeFrames);
    }

    // Seen failing: Free without the gate (free at once, and handed out); FreeHeld that frees the young as well.
    [Fact]
    public void AFreedBufferIsNobodysUntilItsFlush()
    {
        using Machine machine = Fixtures.Stepped(3, 16 << 20);
        FrameAllocator frames = (FrameAllocator)machine.Frames;
        Gate gate = new() { IsPending = true };
        PhysicalAddress buffer = machine.Frame();
        PhysicalAddress table = machine.Frame(FrameKind.UnitTable);
        frames.HoldFreed(gate);
        int free = frames.FreeFrames;
        frames.Free(buffer, 12);
        frames.Free(table, 12);
        Assert.Equal((FrameKind.AwaitsFlush, FrameKind.Free), (frames.KindOf(buffer), frames.KindOf(table)));
        Assert.Equal((1, free + 1), (frames.HeldFrames, frames.FreeFrames));
        var twice = Assert.Throws<InvalidOperationException>(() => frames.Free(buffer, 12));
        Assert.Contains("free already and awaits its flush", twice.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => frames.Release(buffer));
        Assert.Throws<InvalidOperationException>(() => frames.Reclaim(buffer));
        Assert.Throws<ArgumentOutOfRangeException>(() => frames.TryAllocate(FrameKind.AwaitsFlush, 12, out _));

        Assert.True(frames.FreeHeld());
        Assert.Equal(FrameKind.AwaitsFlush, frames.KindOf(buffer));
        PhysicalAddress later = machine.Frame();
        frames.Free(later, 12);
        Assert.True(frames.FreeHeld());
        Assert.Equal((FrameKind.Free, FrameKind.AwaitsFlush), (frames.KindOf(buffer), frames.KindOf(later)));
        Assert.False(frames.FreeHeld());
        gate.IsPending = false;
        PhysicalAddress now = machine.Frame();
        frames.Free(now, 12);
        Assert.Equal((FrameKind.Free, 0), (frames.KindOf(now), frames.HeldFrames));
    }

    // Seen failing: TryAllocate that does not ask the gate.
    [Theory]
    [InlineData(12)]
    [InlineData(21)]
    public void WhereMemoryRunsOutWhatOnlyAwaitsItsFlushIsFlushed(int sizeLog2)
    {
        using Machine machine = Fixtures.Stepped(3, 16 << 20);
        FrameAllocator frames = (FrameAllocator)machine.Frames;
        Gate gate = new() { IsPending = true };
        gate.Flushing = () =>
        {
            gate.IsPending = false;
            while (frames.FreeHeld()) { }
        };
        frames.HoldFreed(gate);
        List<PhysicalAddress> all = [];
        while (frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress frame)) { all.Add(frame); }
        Assert.Equal(0, gate.Flushes);
        frames.Free(all[0], sizeLog2);
        Assert.Equal(1 << (sizeLog2 - 12), frames.HeldFrames);
        Assert.True(frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress again));
        Assert.Equal((all[0], 1), (again, gate.Flushes));
        Assert.False(frames.TryAllocate(FrameKind.Buffer, sizeLog2, out _));
        Assert.Equal(1, gate.Flushes);
    }

    // Seen failing: a frame that had no owner and became a buffer that nobody gives back.
    [Fact]
    public void WhatIsQuarantinedWhileItAwaitsItsFlushHasNoOwner()
    {
        using Machine machine = Fixtures.Stepped(3, 16 << 20);
        FrameAllocator frames = (FrameAllocator)machine.Frames;
        Gate gate = new() { IsPending = true };
        frames.HoldFreed(gate);
        PhysicalAddress[] pages = [machine.Frame(), machine.Frame(), machine.Frame()];
        foreach (PhysicalAddress page in pages) { frames.Free(page, 12); }
        frames.FreeHeld();
        foreach (PhysicalAddress page in pages) { frames.Quarantine(page); }
        Assert.Equal((3, 0), (frames.QuarantinedFrames, frames.HeldFrames));
        Assert.Throws<InvalidOperationException>(() => frames.Quarantine(pages[0]));
        Assert.Throws<InvalidOperationException>(() => frames.Free(pages[0], 12));
        Assert.False(frames.FreeHeld());
        Assert.Equal(FrameKind.Quarantined, frames.KindOf(pages[0]));
        // Somebody else may reach it still: it waits again.
        frames.Release(pages[0]);
        frames.Reclaim(pages[1]);
        Assert.Equal(FrameKind.AwaitsFlush, frames.KindOf(pages[0]));
        Assert.Equal(FrameKind.AwaitsFlush, frames.KindOf(pages[1]));
        gate.IsPending = false;
        frames.Reclaim(pages[2]);
        Assert.Equal(FrameKind.Free, frames.KindOf(pages[2]));
    }

    // Seen failing: a second gate taken.
    [Fact]
    public void OneGateAtATimeAndWithoutOneNothingWaits()
    {
        using Machine machine = Fixtures.Stepped(3, 16 << 20);
        FrameAllocator frames = (FrameAllocator)machine.Frames;
        Gate gate = new() { IsPending = true };
        int free = frames.FreeFrames;
        frames.HoldFreed(gate);
        frames.HoldFreed(gate);
        Assert.Throws<InvalidOperationException>(() => frames.HoldFreed(new Gate()));
        for (int i = 0; i < 100; i++) { frames.Free(machine.Frame(), 12); }
        frames.FreeHeld();
        for (int i = 0; i < 100; i++) { frames.Free(machine.Frame(), 12); }
        Assert.Equal((200, free - 200), (frames.HeldFrames, frames.FreeFrames));
        frames.HoldFreed(null);
        Assert.Equal((0, free), (frames.HeldFrames, frames.FreeFrames));
        frames.HoldFreed(new Gate());
    }

    private sealed class Gate : IFlushGate
    {
        public bool IsPending { get; set; }

        public Action? Flushing { get; set; }

        public int Flushes { get; private set; }

        public void Flush()
        {
            Flushes++;
            Flushing?.Invoke();
        }
    }

    // Seen failing: TryAllocate marking the frame after it has left the lock.
    [Fact]
    public void ThreadsNeverGetTheSameFrame()
    {
        using Machine machine = Fixtures.Stepped(1, 16 << 20);
        int[] owners = new int[(16 << 20) / (int)Page];
        int clashes = 0;
        // Few frames are left, so that threads often want the same one.
        while (((FrameAllocator)machine.Frames).FreeFrames > 24) { machine.Frame(); }
        Parallel.For(0, 4, thread =>
        {
            var random = new Random(thread);
            List<PhysicalAddress> mine = [];
            for (int i = 0; i < 20_000; i++)
            {
                if (mine.Count < 8 && random.Next(2) == 0
                    && machine.Frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress frame))
                {
                    if (Interlocked.Exchange(ref owners[frame.Value / Page], thread + 1) != 0)
                    {
                        Interlocked.Increment(ref clashes);
                    }
                    mine.Add(frame);
                }
                else if (mine.Count > 0)
                {
                    int victim = random.Next(mine.Count);
                    Volatile.Write(ref owners[mine[victim].Value / Page], 0);
                    machine.Frames.Free(mine[victim], 12);
                    mine.RemoveAt(victim);
                }
            }
        });
        Assert.Equal(0, clashes);
    }
}
