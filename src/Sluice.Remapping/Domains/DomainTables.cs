using Sluice.Formats.PageTables;

namespace Sluice.Remapping;

/// <summary>The tables of one domain in one format: the one algorithm over given memory and frames.</summary>
/// <typeparam name="TFormat">The format.</typeparam>
internal sealed class DomainTables<TFormat> : IDomainTables
    where TFormat : struct, IPageTableFormat<TFormat>
{
    private readonly PhysicalMemory _memory;
    private readonly IFrameAllocator _frames;
    private readonly PageTableRoot _root;

    /// <summary>Empty tables under a zeroed top table.</summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="frames">Gives frames for tables, and takes the top one back in the end.</param>
    /// <param name="root">The top table, and what the tables are like.</param>
    public DomainTables(PhysicalMemory memory, IFrameAllocator frames, PageTableRoot root) =>
        (_memory, _frames, _root) = (memory, frames, root);

    /// <inheritdoc/>
    public PageTableRoot Root => _root;

    /// <inheritdoc/>
    public LogicalAddress Last => First + Span;

    /// <inheritdoc/>
    public ulong PageSizes => TFormat.PageSizes(in _root);

    private LogicalAddress First => TFormat.IsFlat ? _root.Base : default;

    // Bytes less one: all 2^64 can be said.
    private ulong Span => TFormat.IsFlat
        ? (_root.Entries << TFormat.GranuleLog2) - 1
        : ulong.MaxValue >> (64 - PageTable<TFormat>.InputBits(in _root));

    /// <summary>The top table of new tables.</summary>
    /// <param name="frames">Gives the frames.</param>
    /// <param name="root">What the tables will be like; its table does not count.</param>
    /// <param name="top">Zeroed, and aligned to its size.</param>
    /// <returns>False when no memory is left.</returns>
    public static bool TryAllocateTop(IFrameAllocator frames, PageTableRoot root, out PhysicalAddress top) =>
        frames.TryAllocate(FrameKind.UnitTable, TopLog2(in root), out top);

    /// <inheritdoc/>
    public PageTableChange Map(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access) =>
        PageTable<TFormat>.Map(_memory, in _root, _frames, first, pages, access);

    /// <inheritdoc/>
    public PageTableChange MapRun(LogicalRange range, PhysicalAddress first, DmaAccess access) =>
        PageTable<TFormat>.Map(_memory, in _root, _frames, range, first, access);

    /// <inheritdoc/>
    public PageTableChange Unmap(LogicalRange range, ref TableGather gather) =>
        PageTable<TFormat>.Unmap(_memory, in _root, range, ref gather);

    /// <inheritdoc/>
    public PageTableStatus Prepare(LogicalRange range) =>
        PageTable<TFormat>.Prepare(_memory, in _root, _frames, range);

    /// <inheritdoc/>
    public PageTableChange UnmapLeaves(LogicalRange range) =>
        PageTable<TFormat>.UnmapLeaves(_memory, in _root, range);

    /// <inheritdoc/>
    public bool TryFind(LogicalAddress address, out PhysicalAddress page)
    {
        Translation found = PageTable<TFormat>.Walk(_memory, in _root, address);
        page = found.Address;
        return found.Status == WalkStatus.Mapped;
    }

    /// <inheritdoc/>
    public void Free(ref TableGather gather) => gather.Free(_memory, _frames);

    /// <inheritdoc/>
    public void FreeAll()
    {
        TableGather gather = default;
        Unmap(new(First, Last), ref gather);
        gather.Free(_memory, _frames);
        _frames.Free(_root.Table, TopLog2(in _root));
    }

    private static int TopLog2(in PageTableRoot root) => Math.Max(12, PageTable<TFormat>.RootSizeLog2(in root));
}
