namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>
    /// Adds every table that mapping a range page by page needs, and no leaf. After that <c>Map</c> of scattered pages
    /// inside the range takes no frame, for as long as nothing but <see cref="UnmapLeaves"/> unmaps there.
    /// </summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="frames">Gives zeroed frames for tables that are missing.</param>
    /// <param name="range">Whole pages, none of them mapped; the caller owns it.</param>
    /// <returns>
    /// Done, or the obstacle: then the tables added so far stay, and <c>Unmap</c> of the range gathers those that it
    /// covers whole.
    /// </returns>
    public static PageTableStatus Prepare<TMemory>(
        TMemory memory, in PageTableRoot root, IFrameAllocator frames, LogicalRange range)
        where TMemory : struct, IPhysicalMemory
    {
        if (!TryGetOffsets(in root, range, out ulong position, out ulong last)) { return PageTableStatus.OutOfRange; }
        if (((position | ~last) & ((1UL << TFormat.GranuleLog2) - 1)) != 0) { return PageTableStatus.Misaligned; }
        while (true)
        {
            (PhysicalAddress table, int level, ulong offset) = (root.Table, root.TopLevel, position);
            ulong allowed = 1UL << TFormat.GranuleLog2;
            PageTableStatus status = Descend(
                memory, in root, frames, ref table, ref level, ref offset, ref allowed, TFormat.GranuleLog2);
            if (status != PageTableStatus.Done) { return status; }
            ulong rest = SpanLast(in root, level) - offset;
            if (rest >= last - position) { return PageTableStatus.Done; }
            position += rest + 1;
        }
    }

    /// <summary>
    /// Clears every leaf in a range and keeps every table: what <see cref="Prepare"/> added stays for the next map.
    /// </summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="range">Whole pages; the caller owns it. Larger pages in it are refused.</param>
    /// <returns>What was cleared. Pointers to tables stay valid: only leaves need an invalidation.</returns>
    public static PageTableChange UnmapLeaves<TMemory>(TMemory memory, in PageTableRoot root, LogicalRange range)
        where TMemory : struct, IPhysicalMemory
    {
        if (!TryGetOffsets(in root, range, out ulong position, out ulong last))
        {
            return new(PageTableStatus.OutOfRange, 0);
        }
        if (((position | ~last) & ((1UL << TFormat.GranuleLog2) - 1)) != 0)
        {
            return new(PageTableStatus.Misaligned, 0);
        }
        Clearing cleared = default;
        while (true)
        {
            PageTableStatus status = FindLeaves(memory, in root, position, out PhysicalAddress table, out ulong offset,
                out ulong span);
            ulong rest = Math.Min(span - offset, last - position);
            if (status == PageTableStatus.Done && table.Value != 0)
            {
                status = ClearLeaves(memory, in root, table, offset, offset + rest, ref cleared);
            }
            if (status != PageTableStatus.Done || rest == last - position)
            {
                return new(status, cleared.Bytes, cleared.PageSizes);
            }
            position += rest + 1;
        }
    }

    /// <summary>
    /// The table of smallest leaves that translates <paramref name="offset"/>, or none (0) where an entry above is
    /// absent; the offset becomes that inside what was found, whose last one is <paramref name="span"/>.
    /// </summary>
    private static PageTableStatus FindLeaves<TMemory>(
        TMemory memory, in PageTableRoot root, ulong position, out PhysicalAddress table, out ulong offset,
        out ulong span)
        where TMemory : struct, IPhysicalMemory
    {
        int level = root.TopLevel;
        (table, offset, span) = (root.Table, position, SpanLast(in root, level));
        while (level > 0)
        {
            int shift = Shift(level);
            if (!TryLoad(memory, table, offset >> shift, out ulong entry)) { return PageTableStatus.DamagedTables; }
            span = (1UL << shift) - 1;
            offset &= span;
            if (!TFormat.IsPresent(entry))
            {
                table = default;
                return PageTableStatus.Done;
            }
            if (TFormat.HasReservedBits(entry, level, in root)) { return PageTableStatus.DamagedTables; }
            if (TFormat.IsLeaf(entry, level)) { return PageTableStatus.WouldSplit; }
            table = TFormat.Address(entry, level);
            level = TFormat.NextLevel(entry, level);
            span = SpanLast(in root, level);
            if (offset > span) { return PageTableStatus.DamagedTables; }
        }
        return PageTableStatus.Done;
    }
}
