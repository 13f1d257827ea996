using Sluice.Formats.Vtd;

namespace Sluice.Remapping.Tests;

public sealed class ShadowPoolTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);

    // Seen failing: TryMake mapping every slot ReadWrite, and TryRent rounding the size down.
    [Fact]
    public void RentedSlotsAreDisjointMappedWithTheRightAskedForAndGuarded()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { Policy = InvalidationPolicy.Shadow });
        system.Attach(domain, Device);
        using ShadowPool pool = new(domain, platform, new() { MaximumPages = 2_000 });
        Random random = new(8);
        HashSet<PhysicalAddress> inUse = [];
        List<ShadowSlot> rented = [];
        for (int turn = 0; turn < 5_000; turn++)
        {
            DmaAccess access = (DmaAccess)random.Next(1, 4);
            if (random.Next(2) == 0 && rented.Count < 30
                && pool.TryRent(1 + random.Next(40), access, out ShadowSlot slot))
            {
                for (int i = 0; i < slot.PageCount; i++)
                {
                    Assert.True(inUse.Add(slot.Pages[i]));
                    LogicalAddress address = slot.First + ((ulong)i << 12) + 7;
                    foreach (DmaAccess tried in (DmaAccess[])[DmaAccess.Read, DmaAccess.Write])
                    {
                        Assert.Equal((access & tried) != 0 ? slot.Pages[i] + 7 : null,
                            platform.Reach(Device, address, tried));
                    }
                }
                LogicalAddress guard = slot.First + ((ulong)slot.Buffer.Pages.Length << 12);
                Assert.Null(platform.Reach(Device, guard, access));
                rented.Add(slot);
            }
            else if (rented.Count != 0)
            {
                ShadowSlot back = rented[random.Next(rented.Count)];
                rented.Remove(back);
                foreach (PhysicalAddress page in back.Pages) { inUse.Remove(page); }
                pool.Return(back);
            }
        }
        foreach (ShadowSlot slot in rented) { pool.Return(slot); }
    }

    [Fact]
    public void ThePoolIsBoundedAndAtItsLimitALargerSlotServes()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        using ShadowPool pool = new(domain, platform,
            new() { MaximumPages = 64, LargestSlotLog2 = 4, ChunkPages = 16 });
        Assert.True(pool.TryRent(16, DmaAccess.Read, out ShadowSlot large));
        List<ShadowSlot> slots = [];
        while (pool.TryRent(1, DmaAccess.Read, out ShadowSlot slot)) { slots.Add(slot); }
        Assert.Equal(64, pool.MappedPages);
        Assert.Equal(48, slots.Count);
        pool.Return(large);
        Assert.True(pool.TryRent(1, DmaAccess.Read, out ShadowSlot inLarge));
        Assert.Equal(large.First, inLarge.First);
        Assert.False(pool.TryRent(1, DmaAccess.Write, out _));
        pool.Return(inLarge);
        foreach (ShadowSlot slot in slots) { pool.Return(slot); }
        Assert.Throws<InvalidOperationException>(() => pool.Return(slots[0]));
    }

    // Seen failing: a pool that keeps its idle slots.
    [Fact]
    public void IdleSlotsOfOtherSizesAndRightsGiveWayToTheOneThatIsNeeded()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { Policy = InvalidationPolicy.Shadow });
        system.Attach(domain, Device);
        using ShadowPool pool = new(domain, platform,
            new() { MaximumPages = 64, LargestSlotLog2 = 4, ChunkPages = 16 });
        List<ShadowSlot> small = [];
        while (pool.TryRent(1, DmaAccess.Read, out ShadowSlot slot)) { small.Add(slot); }
        ShadowSlot kept = small[^1];
        foreach (ShadowSlot slot in small[..^1]) { pool.Return(slot); }
        LogicalAddress first = small[0].First;

        Assert.True(pool.TryRent(16, DmaAccess.Write, out ShadowSlot large));
        Assert.True(pool.TryRent(9, DmaAccess.Write, out ShadowSlot second));
        Assert.True(pool.TryRent(16, DmaAccess.ReadWrite, out ShadowSlot third));
        Assert.InRange(pool.MappedPages, 49, 64);
        // One page is rented, 48 are: no more than 15 can come together, whatever is idle.
        Assert.False(pool.TryRent(16, DmaAccess.Write, out _));
        Assert.True(pool.TryRent(8, DmaAccess.Write, out ShadowSlot fourth));
        // What gave way is out of the device's reach, and what is rented is not.
        Assert.Equal(kept.Pages[0], platform.Reach(Device, kept.First, DmaAccess.Read));
        Assert.Equal(large.Pages[15], platform.Reach(Device, large.First + (15 << 12), DmaAccess.Write));
        Assert.Null(platform.Reach(Device, first, DmaAccess.Read));
        Assert.Throws<InvalidOperationException>(() => pool.Return(small[0]));

        // And back again.
        foreach (ShadowSlot slot in new[] { large, second, third, fourth, kept }) { pool.Return(slot); }
        small.Clear();
        while (pool.TryRent(1, DmaAccess.Read, out ShadowSlot slot)) { small.Add(slot); }
        Assert.Equal(64, small.Count);
        Assert.Equal(64, pool.MappedPages);
        small.ForEach(s => pool.Return(s));
    }

    // Seen failing: Dispose treating a rented slot like the others: its pages were freed. And unmapping by steps of its
    // own: what it had unmapped was still counted as mapped.
    [Fact]
    public void DisposeUnmapsFreesAndQuarantinesWhatIsStillRented()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Device);
        ShadowPool pool = new(domain, platform, new());
        Assert.True(pool.TryRent(2, DmaAccess.Read, out ShadowSlot leaked));
        Assert.True(pool.TryRent(1, DmaAccess.Read, out ShadowSlot back));
        pool.Return(back);
        LogicalAddress first = back.First;
        pool.Dispose();
        Assert.Null(platform.Reach(Device, first, DmaAccess.Read));
        Assert.Equal(leaked.Pages[0], platform.Reach(Device, leaked.First, DmaAccess.Read));
        Assert.Equal(2, platform.Frames.QuarantinedFrames);
        Assert.Equal(2, pool.MappedPages);
        Assert.Equal(0, platform.TestFrames.Count(FrameKind.Buffer));
    }

    // Seen failing: Dispose leaving the idle slots where TryRent looks, and Return adding to them: freed pages were
    // lent.
    [Fact]
    public void APoolThatEndedLendsNothingAnyMore()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        ShadowPool pool = new(domain, platform, new());
        Assert.True(pool.TryRent(1, DmaAccess.Read, out ShadowSlot late));
        Assert.True(pool.TryRent(2, DmaAccess.Write, out ShadowSlot other));
        pool.Return(other);
        pool.Dispose();
        Assert.False(pool.TryRent(1, DmaAccess.Read, out _));
        Assert.False(pool.TryRent(2, DmaAccess.Write, out _));
        // It was quarantined: taking it back is no mistake, and lends it to nobody.
        pool.Return(late);
        Assert.False(pool.TryRent(1, DmaAccess.Read, out _));
        Assert.Throws<InvalidOperationException>(() => pool.Return(late));
        Assert.Equal(FrameKind.Quarantined, platform.Frames.KindOf(late.Pages[0]));
        Assert.Equal(1, platform.Frames.QuarantinedFrames);
    }

    // Seen failing: "rented" read twice without the gate: a slot rented in between was lent unmapped, and its pages
    // were neither freed nor quarantined.
    [Fact]
    public void ASlotRentedWhileThePoolEndsIsEitherKeptOrNotLent()
    {
        for (int at = 0; at < 5; at++)
        {
            using TestPlatform platform = new();
            using RemappingSystem system = platform.Start();
            Domain domain = system.CreateDomain(new());
            system.Attach(domain, Device);
            ShadowPool pool = new(domain, platform, new() { ChunkPages = 4 });
            Assert.True(pool.TryRent(1, DmaAccess.Read, out ShadowSlot slot));
            pool.Return(slot);
            LogicalAddress first = slot.First;
            int invalidations = 0;
            bool lent = false;
            platform.Registers.OnWrite = (offset, _) =>
            {
                if (offset == VtdRegister.InvalidationQueueTail && invalidations++ == at)
                {
                    lent = pool.TryRent(1, DmaAccess.Read, out ShadowSlot rented);
                    if (lent) { first = rented.First; }
                }
                return true;
            };
            pool.Dispose();
            platform.Registers.OnWrite = null;
            Assert.True(invalidations is 3 or 4, "Dispose was watched");
            Assert.Equal(lent, platform.Reach(Device, first, DmaAccess.Read) is not null);
            Assert.Equal(lent ? 1 : 0, platform.Frames.QuarantinedFrames);
            Assert.Equal(0, platform.TestFrames.Count(FrameKind.Buffer));
        }
    }

    [Fact]
    public void RentAndReturnAllocateNothingAndInvalidateNothing()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        using ShadowPool pool = new(domain, platform, new());
        Turn(pool);
        long waits = system.Statistics.Waits;
        long before = HeapMeter.Now;
        Turn(pool);
        HeapMeter.AssertNone(before);
        Assert.Equal(waits, system.Statistics.Waits);

        static void Turn(ShadowPool pool)
        {
            for (int i = 0; i < 3_000; i++)
            {
                if (!pool.TryRent(1 + i % 100, DmaAccess.Write, out ShadowSlot slot))
                {
                    Assert.Fail("the pool is empty");
                }
                pool.Return(slot);
            }
        }
    }
}
