using System.Numerics;
using Sluice.Formats.PageTables;
using Sluice.Remapping.Allocation;

namespace Sluice.Remapping;

/// <summary>Pages that <see cref="Domain.TryMapRange"/> mapped. Hand it back to <see cref="Domain.UnmapRange"/>
/// once.</summary>
/// <remarks>Only a domain makes one, and nobody changes it: it is always a mapping as a whole.</remarks>
public readonly record struct DomainRange
{
    internal DomainRange(LogicalSpace space, ulong pageSizes) => (Space, PageSizes) = (space, pageSizes);

    /// <summary>Its logical addresses and their guard pages.</summary>
    public LogicalSpace Space { get; }

    /// <summary>The sizes of the leaves in use: bit n for 2^n bytes.</summary>
    public ulong PageSizes { get; }

    /// <summary>The mapped bytes.</summary>
    public LogicalRange Range => Space.Range;
}

// What stays mapped for long: bounds, alignment, large leaves, guard pages on both sides. Always strict.
public sealed partial class Domain
{
    /// <summary>The sizes of leaves that its units understand: bit n for 2^n bytes.</summary>
    public ulong PageSizes => _tables.PageSizes;

    /// <summary>
    /// Maps pages, in order, to one run of logical addresses between bounds, with large leaves wherever frames follow
    /// each other and lie as the addresses do.
    /// </summary>
    /// <param name="pages">Page-aligned addresses of <see cref="FrameKind.Buffer"/> frames, at least one.</param>
    /// <param name="access">What the device may do; exactly this stands in the tables.</param>
    /// <param name="bounds">Where every byte lies.</param>
    /// <param name="alignmentLog2">The first byte is a multiple of this power of two; below 12 counts as 12.</param>
    /// <param name="range">Keep it for <see cref="UnmapRange"/>.</param>
    /// <returns>
    /// Why not, if not; then nothing is mapped. With <see cref="MapStatus.Dead"/> pages may be quarantined.
    /// </returns>
    /// <exception cref="ArgumentException">No page, a page that is not aligned, or no access.</exception>
    public MapStatus TryMapRange(
        ReadOnlySpan<PhysicalAddress> pages, DmaAccess access, LogicalRange bounds, int alignmentLog2,
        out DomainRange range)
    {
        range = default;
        MapStatus status = Check(pages, access);
        if (status != MapStatus.Mapped) { return status; }
        ulong count = (ulong)pages.Length;
        if (!Addresses.TryAllocateRange(count, bounds, alignmentLog2, out LogicalSpace space))
        {
            if (_deferred is null) { return MapStatus.NoLogicalSpace; }
            _deferred.Flush();
            if (!Addresses.TryAllocateRange(count, bounds, alignmentLog2, out space))
            {
                return MapStatus.NoLogicalSpace;
            }
        }
        PageTableChange change = MapRuns(space.Range.First, pages, access);
        if (!change.IsDone)
        {
            if (!TakeBack(space.Range.First, change.Bytes))
            {
                Quarantine(Written(pages, change));
                return MapStatus.Dead;
            }
            Addresses.Free(space);
            return change.Status == PageTableStatus.NoFrames ? MapStatus.NoMemory
                : throw new InvalidOperationException($"the tables of {this} refuse {space.Range}: {change.Status}");
        }
        if (_announces && !Announce(space.Range))
        {
            Quarantine(pages);
            return MapStatus.Dead;
        }
        range = new(space, change.PageSizes);
        return MapStatus.Mapped;
    }

    /// <summary>Takes a range back: when this returns no access through it happens or is in flight.</summary>
    /// <param name="range">From <see cref="TryMapRange"/>, not unmapped before.</param>
    /// <param name="pages">The pages that were mapped: they are quarantined when no unit confirms.</param>
    /// <returns>Whether the pages may be reused; <see cref="UnmapStatus.Quarantined"/> forbids it.</returns>
    /// <exception cref="InvalidOperationException">It is not mapped: unmapped twice, or another domain's.</exception>
    public UnmapStatus UnmapRange(in DomainRange range, ReadOnlySpan<PhysicalAddress> pages)
    {
        if (_disposed && !_dead) { return UnmapStatus.Unmapped; }
        TableGather gather = default;
        PageTableChange change = _tables.Unmap(range.Range, ref gather);
        if (_dead || !Invalidate(range.Range, onlyLeaves: gather.Count == 0))
        {
            Quarantine(pages);
            return UnmapStatus.Quarantined;
        }
        _tables.Free(ref gather);
        if (change.Bytes != range.Range.Length) { throw NotWhole(range.Range.First, change); }
        Addresses.Free(range.Space);
        return UnmapStatus.Unmapped;
    }

    /// <summary>How many pages from <paramref name="from"/> on follow each other in memory.</summary>
    private static int RunFrom(ReadOnlySpan<PhysicalAddress> pages, int from)
    {
        int count = 1;
        while (from + count < pages.Length && pages[from + count] == pages[from] + ((ulong)count << PageLog2))
        {
            count++;
        }
        return count;
    }

    private PageTableChange MapRuns(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access)
    {
        PageTableChange all = new(PageTableStatus.Done, 0);
        int mapped = 0;
        for (int at = 0; all.IsDone && mapped < pages.Length;)
        {
            int run = at < pages.Length ? RunFrom(pages, at) : 0;
            // Nor can a shorter run hold a large leaf.
            if (run > 0 && run < _largeLeafPages)
            {
                at += run;
                continue;
            }
            if (mapped < at)
            {
                all = Sum(all, _tables.Map(first + ((ulong)mapped << PageLog2), pages[mapped..at], access));
                if (!all.IsDone) { break; }
            }
            if (run > 0)
            {
                LogicalRange piece = LogicalRange.FromLength(
                    first + ((ulong)at << PageLog2), (ulong)run << PageLog2);
                all = Sum(all, _tables.MapRun(piece, pages[at], access));
            }
            mapped = at += run;
        }
        return all;
    }

    /// <summary>How many pages the smallest leaf has that is more than a page.</summary>
    private static int PagesOfLargeLeaf(ulong pageSizes)
    {
        ulong larger = pageSizes & ~((2UL << PageLog2) - 1);
        return larger == 0 ? int.MaxValue : 1 << Math.Min(30, BitOperations.TrailingZeroCount(larger) - PageLog2);
    }

    private static PageTableChange Sum(PageTableChange before, PageTableChange next) =>
        new(next.Status, before.Bytes + next.Bytes, before.PageSizes | next.PageSizes);
}
