using Sluice.Formats.PageTables;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// The second-stage tables of one domain. Callers own the ranges they change: the allocator gives every range to one of
/// them.
/// </summary>
internal sealed class DomainTables
{
    private readonly PhysicalMemory _memory;
    private readonly IFrameAllocator _frames;
    private readonly PageTableRoot _root;

    /// <summary>Empty tables under a zeroed top table.</summary>
    public DomainTables(PhysicalMemory memory, IFrameAllocator frames, PageTableRoot root) =>
        (_memory, _frames, _root) = (memory, frames, root);

    /// <summary>The top table.</summary>
    public PhysicalAddress Top => _root.Table;

    /// <summary>Its level.</summary>
    public int TopLevel => _root.TopLevel;

    /// <summary>The last byte that the tables can translate.</summary>
    public LogicalAddress Last => new((1UL << (12 + 9 * (_root.TopLevel + 1))) - 1);

    /// <summary>
    /// Maps scattered pages to one run. What was written before an obstacle stays: unmap <c>Bytes</c> to roll back.
    /// </summary>
    public PageTableChange Map(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access) =>
        PageTable<VtdSecondStage>.Map(_memory, in _root, _frames, first, pages, access);

    /// <summary>The sizes of leaves that the hardware understands: bit n for 2^n bytes.</summary>
    public ulong PageSizes => VtdSecondStage.PageSizes(in _root);

    /// <summary>Maps frames that follow each other, with the largest leaves that fit.</summary>
    public PageTableChange MapRun(LogicalRange range, PhysicalAddress first, DmaAccess access) =>
        PageTable<VtdSecondStage>.Map(_memory, in _root, _frames, range, first, access);

    /// <summary>Maps a range to itself.</summary>
    public PageTableChange MapIdentity(LogicalRange range) => PageTable<VtdSecondStage>.Map(
        _memory, in _root, _frames, range, new PhysicalAddress(range.First.Value), DmaAccess.ReadWrite);

    /// <summary>
    /// Clears a range. Tables that became superfluous are gathered, to be freed after the invalidation.
    /// </summary>
    public PageTableChange Unmap(LogicalRange range, ref TableGather gather) =>
        PageTable<VtdSecondStage>.Unmap(_memory, in _root, range, ref gather);

    /// <summary>
    /// Adds the tables for a range: mapping pages there takes no frame until it is unmapped as a whole.
    /// </summary>
    public PageTableStatus Prepare(LogicalRange range) =>
        PageTable<VtdSecondStage>.Prepare(_memory, in _root, _frames, range);

    /// <summary>Clears a range whose tables stay.</summary>
    public PageTableChange UnmapLeaves(LogicalRange range) =>
        PageTable<VtdSecondStage>.UnmapLeaves(_memory, in _root, range);

    /// <summary>The page behind an address, if one is mapped.</summary>
    public bool TryFind(LogicalAddress address, out PhysicalAddress page)
    {
        Translation found = PageTable<VtdSecondStage>.Walk(_memory, in _root, address);
        page = found.Address;
        return found.Status == WalkStatus.Mapped;
    }

    /// <summary>Frees gathered tables: no unit may still walk them.</summary>
    public void Free(ref TableGather gather) => gather.Free(_memory, _frames);

    /// <summary>Frees everything: no unit may know the top table any more.</summary>
    public void FreeAll()
    {
        TableGather gather = default;
        Unmap(new(default, Last), ref gather);
        gather.Free(_memory, _frames);
        _frames.Free(_root.Table, 12);
    }
}
