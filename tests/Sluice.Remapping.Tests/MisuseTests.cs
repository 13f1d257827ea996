using Sluice.Formats.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>
/// What is unmapped twice, or by somebody else's mapping, throws; and what was cleared is out of reach.
/// </summary>
public sealed class MisuseTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);

    public static TheoryData<InvalidationPolicy> Policies => [InvalidationPolicy.Strict, InvalidationPolicy.Deferred];

    // Seen failing: UnmapReserved that threw between clearing the entries and the invalidation, in both policies: the
    // unit's caches still led to all of the second mapping, for good.
    [Theory]
    [MemberData(nameof(Policies))]
    public void WhatASecondUnmapTakesFromANeighbourIsOutOfReach(InvalidationPolicy policy)
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { Policy = policy });
        system.Attach(domain, Device);
        Assert.Equal(MapStatus.Mapped, domain.TryReserve(8, domain.Last, out DomainReservation? reservation));
        PhysicalAddress[] pages = platform.Buffers(8);
        ReservedMapping one = Map(0);
        domain.UnmapReserved(one, pages.AsSpan(0, 4));
        ReservedMapping two = Map(2);
        for (int i = 0; i < 4; i++) { Assert.Equal(pages[2 + i], Reach(2 + i)); }

        Assert.Throws<InvalidOperationException>(() => domain.UnmapReserved(one, pages.AsSpan(0, 4)));
        domain.FlushNow();
        for (int i = 0; i < 4; i++) { Assert.Equal(i < 2 ? null : pages[2 + i], Reach(2 + i)); }
        Assert.Throws<InvalidOperationException>(() => domain.UnmapReserved(two, pages.AsSpan(2, 4)));
        domain.FlushNow();
        for (int i = 0; i < 4; i++) { Assert.Null(Reach(2 + i)); }
        // Nothing is mapped in it any more, and it knows.
        Assert.Equal(0, reservation!.MappedPages);
        domain.FreeReservation(reservation);

        PhysicalAddress? Reach(int page) =>
            platform.Reach(Device, reservation!.First + ((ulong)page << 12), DmaAccess.Read);

        ReservedMapping Map(int first)
        {
            Assert.Equal(MapStatus.Mapped, domain.TryMapReserved(
                reservation!, first, pages.AsSpan(first, 4), DmaAccess.Read, out ReservedMapping mapping));
            return mapping;
        }
    }

    // Seen failing: UnmapLater that threw before the ring knew of what it had cleared: the gathered tables were lost,
    // and nothing ended the reach of the mapping that lay there now.
    [Theory]
    [InlineData(1_500, 1_100)]
    [InlineData(3, 2)]
    public void WhatASecondUnmapTakesFromTheNextOwnerIsOutOfReach(int before, int after)
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { Policy = InvalidationPolicy.Deferred, AddressBits = 24 });
        system.Attach(domain, Device);
        PhysicalAddress[] pages = platform.Buffers(before);
        DomainMapping gone = domain.MustMap(pages, DmaAccess.Read);
        domain.Unmap(gone);
        domain.FlushNow();
        // The space is small: soon somebody else has these addresses.
        DomainMapping next = default;
        int tables = 0;
        for (int turn = 0; next.First != gone.First; turn++)
        {
            Assert.InRange(turn, 0, 2_000);
            tables = platform.TestFrames.Count(FrameKind.UnitTable);
            next = domain.MustMap(pages.AsSpan(0, after), DmaAccess.Read);
        }
        Assert.Equal(gone.SlotLog2, next.SlotLog2);
        Assert.Equal(pages[after - 1], platform.Reach(Device, next.Range.Last.AlignDown(12), DmaAccess.Read));

        Assert.Throws<InvalidOperationException>(() => domain.Unmap(gone, pages));
        domain.FlushNow();
        Assert.Null(platform.Reach(Device, next.Range.Last.AlignDown(12), DmaAccess.Read));
        Assert.InRange(platform.TestFrames.Count(FrameKind.UnitTable), tables - 1, tables + 1);
        // Its addresses are not given to a third: the next owner has not given them back.
        Assert.Equal(1, domain.Addresses.Frees);
        Assert.Throws<InvalidOperationException>(() => domain.Unmap(next));
        Assert.Equal((1L, 1L), (domain.Addresses.Frees, domain.QuarantinedRanges));
    }

    // Seen failing: the addresses of a mapping of which a part was gone kept back, and counted nowhere: by an unmap at
    // once, by a deferred one whose unit confirms, and by one whose unit is dead.
    [Theory]
    [InlineData(InvalidationPolicy.Strict, true)]
    [InlineData(InvalidationPolicy.Deferred, true)]
    [InlineData(InvalidationPolicy.Deferred, false)]
    public void ARangeThatIsKeptBackBecausePartOfItWasGoneIsCounted(InvalidationPolicy policy, bool answers)
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        // Each mapping has tables of its own, so that the deferred ones are flushed at once.
        Domain domain = system.CreateDomain(new() { Policy = policy });
        system.Attach(domain, Device);
        PhysicalAddress[] pages = platform.Buffers(600);
        DomainMapping whole = domain.MustMap(pages, DmaAccess.Read);
        DomainMapping part = new(whole.First, 300, whole.SlotLog2);
        Assert.Equal(MapStatus.Mapped, domain.TryMapRange(
            pages, DmaAccess.Read, new(default, domain.Last), 21, out DomainRange range));
        Assert.Equal(0, domain.QuarantinedRanges);
        long frees = domain.Addresses.Frees;
        domain.Tables.UnmapLeaves(part.Range);
        domain.Tables.UnmapLeaves(LogicalRange.FromLength(range.Range.First, 0x1000));
        platform.Registers.OnWrite = (offset, _) => answers || offset != VtdRegister.InvalidationQueueTail;
        if (answers)
        {
            Assert.Throws<InvalidOperationException>(() => domain.UnmapRange(range, pages));
            Assert.Equal(1, domain.QuarantinedRanges);
            Assert.Throws<InvalidOperationException>(() => domain.Unmap(whole, pages));
            Assert.Equal(2, domain.QuarantinedRanges);
            // Of what is not mapped at all nothing is lost.
            Assert.Throws<InvalidOperationException>(() => domain.UnmapRange(range, pages));
            Assert.Throws<InvalidOperationException>(() => domain.Unmap(whole, pages));
            Assert.Equal((2L, frees), (domain.QuarantinedRanges, domain.Addresses.Frees));
        }
        else
        {
            Assert.Equal(UnmapStatus.Quarantined, domain.Unmap(whole, pages));
            Assert.Equal((1L, frees), (domain.QuarantinedRanges, domain.Addresses.Frees));
        }
    }
}
