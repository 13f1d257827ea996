using Sluice.Formats.PageTables;

namespace Sluice.Remapping;

/// <summary>
/// The page tables of one domain, whatever their format. Callers own the ranges they change: the allocator gives every
/// range to one of them. Allocates nothing but table frames.
/// </summary>
internal interface IDomainTables
{
    /// <summary>Where the top table lies, and what the tables are like: what a unit is told.</summary>
    PageTableRoot Root { get; }

    /// <summary>The last byte that the tables can translate.</summary>
    LogicalAddress Last { get; }

    /// <summary>The sizes of leaves that may stand in them: bit n for 2^n bytes.</summary>
    ulong PageSizes { get; }

    /// <summary>
    /// Maps scattered pages to one run. What was written before an obstacle stays: unmap <c>Bytes</c> to roll back.
    /// </summary>
    /// <param name="first">The first logical byte.</param>
    /// <param name="pages">The pages, in order.</param>
    /// <param name="access">What a device may do.</param>
    PageTableChange Map(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access);

    /// <summary>Maps frames that follow each other, with the largest leaves that fit.</summary>
    /// <param name="range">Whole pages.</param>
    /// <param name="first">Where its first byte lies.</param>
    /// <param name="access">What a device may do.</param>
    PageTableChange MapRun(LogicalRange range, PhysicalAddress first, DmaAccess access);

    /// <summary>
    /// Clears a range. Tables that became superfluous are gathered, to be freed after the invalidation.
    /// </summary>
    /// <param name="range">Whole pages.</param>
    /// <param name="gather">Takes the tables.</param>
    PageTableChange Unmap(LogicalRange range, ref TableGather gather);

    /// <summary>
    /// Adds the tables for a range: mapping pages there takes no frame until it is unmapped as a whole.
    /// </summary>
    /// <param name="range">Whole pages.</param>
    PageTableStatus Prepare(LogicalRange range);

    /// <summary>Clears a range whose tables stay.</summary>
    /// <param name="range">Whole pages.</param>
    PageTableChange UnmapLeaves(LogicalRange range);

    /// <summary>The page behind an address, if one is mapped.</summary>
    /// <param name="address">Any byte.</param>
    /// <param name="page">What it leads to.</param>
    bool TryFind(LogicalAddress address, out PhysicalAddress page);

    /// <summary>Frees gathered tables: no unit may still walk them.</summary>
    /// <param name="gather">From <see cref="Unmap"/>.</param>
    void Free(ref TableGather gather);

    /// <summary>Frees everything: no unit may know the top table any more.</summary>
    void FreeAll();
}
