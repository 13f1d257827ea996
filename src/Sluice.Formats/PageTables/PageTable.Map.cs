using System.Numerics;

namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>Maps a range to one contiguous run of memory with the largest pages that fit both.</summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="frames">
    /// Gives zeroed frames for tables that are missing; those that a failed map added stay, empty.
    /// </param>
    /// <param name="range">Whole pages; the caller owns it.</param>
    /// <param name="first">Where its first byte lies.</param>
    /// <param name="access">
    /// What the device may do; formats without write-only grant both, see <see
    /// cref="IPageTableFormat{TSelf}.Granted"/>.
    /// </param>
    /// <remarks>
    /// Where a table already stands smaller pages are used, even if the table is empty: replacing it would need an
    /// invalidation. Hardware that caches absent entries (VT-d caching mode) needs one after every map.
    /// </remarks>
    /// <returns>What was done; a leaf that is in use is never overwritten.</returns>
    public static PageTableChange Map<TMemory>(
        TMemory memory, in PageTableRoot root, IFrameAllocator frames, LogicalRange range, PhysicalAddress first,
        DmaAccess access)
        where TMemory : struct, IPhysicalMemory =>
        Map(memory, in root, frames, range, new ContiguousPages(first), access);

    /// <summary>Maps scattered pages of the smallest size to one contiguous range of logical addresses.</summary>
    /// <inheritdoc cref="Map{TMemory}(TMemory, in PageTableRoot, IFrameAllocator, LogicalRange, PhysicalAddress,
    /// DmaAccess)"/>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="frames">
    /// Gives zeroed frames for tables that are missing; those that a failed map added stay, empty.
    /// </param>
    /// <param name="first">The first logical address.</param>
    /// <param name="pages">The pages, in order; at least one.</param>
    /// <param name="access">What the device may do.</param>
    public static PageTableChange Map<TMemory>(
        TMemory memory,
        in PageTableRoot root,
        IFrameAllocator frames,
        LogicalAddress first,
        ReadOnlySpan<PhysicalAddress> pages,
        DmaAccess access)
        where TMemory : struct, IPhysicalMemory
    {
        if (pages.IsEmpty) { return new(PageTableStatus.Done, 0); }
        ulong last = ((ulong)pages.Length << TFormat.GranuleLog2) - 1;
        if (first + last < first) { return new(PageTableStatus.OutOfRange, 0); }
        return Map(memory, in root, frames, new(first, first + last), new ScatteredPages(pages), access);
    }

    private static PageTableChange Map<TMemory, TPages>(
        TMemory memory, in PageTableRoot root, IFrameAllocator frames, LogicalRange range, TPages pages,
        DmaAccess access)
        where TMemory : struct, IPhysicalMemory
        where TPages : struct, IPageSource, allows ref struct
    {
        if (!TryGetOffsets(in root, range, out ulong position, out ulong last))
        {
            return new(PageTableStatus.OutOfRange, 0);
        }
        ulong inPage = (1UL << TFormat.GranuleLog2) - 1;
        if (((position | ~last) & inPage) != 0 || (pages[0].Value & inPage) != 0)
        {
            return new(PageTableStatus.Misaligned, 0);
        }
        if (access == DmaAccess.None) { return new(PageTableStatus.NoAccess, 0); }
        if (!pages.AreWithin(((1UL << PhysicalBits(in root)) - 1) & ~inPage, last - position))
        {
            return new(PageTableStatus.OutOfRange, 0);
        }

        ulong start = position;
        ulong sizes = pages.Limit(TFormat.PageSizes(in root));
        ulong allowed = sizes;
        ulong written = 0;
        while (true)
        {
            // One descent per run of equal leaves in one table.
            int level = root.TopLevel;
            PhysicalAddress table = root.Table;
            ulong offset = position;
            ulong physical = pages[position - start].Value;
            PageTableStatus status;
            int size;
            do
            {
                size = BestPageSize(allowed, position, last, physical);
                status = Descend(memory, in root, frames, ref table, ref level, ref offset, ref allowed, size);
            }
            while (status == PageTableStatus.Done && allowed >> size == 0);
            int shift = Shift(level);
            ulong bytes = 0;
            if (status == PageTableStatus.Done)
            {
                ulong tableLast = position + Math.Min(last - position, SpanLast(in root, level) - offset);
                bytes = RunLength(sizes, size, position, tableLast, last, physical);
                int free = FreeItems(memory, table, level, offset >> shift, (int)((bytes - 1) >> shift) + 1,
                    out status);
                // Whole leaves only. Both counts may stand for all 2^64 bytes, so they are compared less one.
                bytes = free == 0 ? 0 : (Math.Min(bytes - 1, ((ulong)free << shift) - 1) + 1) >> size << size;
            }
            if (status == PageTableStatus.Done && bytes != 0)
            {
                status = Fill(memory, table, level, offset >> shift, (int)(bytes >> shift), size, pages,
                    position - start, access);
            }
            if (status != PageTableStatus.Done) { return new(status, position - start, written); }
            // A table stands where the rest of a large leaf would go: there only smaller ones fit.
            allowed = bytes == 0 ? allowed & ((1UL << size) - 1) : sizes;
            if (bytes == 0) { continue; }
            written |= 1UL << size;
            if (bytes - 1 == last - position) { return new(PageTableStatus.Done, last - start + 1, written); }
            position += bytes;
        }
    }

    /// <summary>
    /// Goes down, adding tables, to the level of the wanted size; or to where a table stands in the way of it: then
    /// <paramref name="allowed"/> loses the sizes that no longer fit.
    /// </summary>
    private static PageTableStatus Descend<TMemory>(
        TMemory memory,
        in PageTableRoot root,
        IFrameAllocator frames,
        ref PhysicalAddress table,
        ref int level,
        ref ulong offset,
        ref ulong allowed,
        int size)
        where TMemory : struct, IPhysicalMemory
    {
        int target = (size - TFormat.GranuleLog2) / TFormat.IndexBits;
        ulong mask = TFormat.TableMask(in root);
        while (level > 0)
        {
            int shift = Shift(level);
            if (!TryLoad(memory, table, offset >> shift, out ulong entry)) { return PageTableStatus.DamagedTables; }
            if (level > target + 1 && (entry & mask) == TFormat.Table(default, level))
            {
                table = TFormat.TableAddress(entry);
                level--;
                offset &= (1UL << shift) - 1;
                continue;
            }
            if (!TFormat.IsPresent(entry))
            {
                if (level <= target) { return PageTableStatus.Done; }
                PageTableStatus added = AddTable(memory, frames, PhysicalBits(in root), table, level, offset >> shift,
                    ref entry);
                if (added != PageTableStatus.Done) { return added; }
            }
            if (TFormat.HasReservedBits(entry, level, in root)) { return PageTableStatus.DamagedTables; }
            if (TFormat.IsLeaf(entry, level)) { return PageTableStatus.AlreadyMapped; }
            table = TFormat.Address(entry, level);
            int above = level;
            level = TFormat.NextLevel(entry, level);
            offset &= (1UL << shift) - 1;
            if (offset >> Shift(level + 1) != 0) { return PageTableStatus.DamagedTables; }
            if (target >= above || target > level)
            {
                allowed &= (1UL << Shift(level + 1)) - 1;
                return PageTableStatus.Done;
            }
        }
        return PageTableStatus.Done;
    }

    private static PageTableStatus AddTable<TMemory>(
        TMemory memory, IFrameAllocator frames, int physicalBits, PhysicalAddress table, int level, ulong index,
        ref ulong entry)
        where TMemory : struct, IPhysicalMemory
    {
        if (!frames.TryAllocate(FrameKind.UnitTable, TableFrameLog2, out PhysicalAddress frame,
            new PhysicalAddress((1UL << physicalBits) - 1)))
        {
            return PageTableStatus.NoFrames;
        }
        ulong link = TFormat.Table(frame, level);
        if (!TrySwap(memory, table, index, entry, link, out ulong observed))
        {
            frames.Free(frame, TableFrameLog2);
            return PageTableStatus.DamagedTables;
        }
        if (observed != entry) { frames.Free(frame, TableFrameLog2); }
        entry = observed == entry ? link : observed;
        return PageTableStatus.Done;
    }

    /// <summary>
    /// How many items from <paramref name="index"/> on are free, at most <paramref name="count"/>: up to a table. A
    /// leaf is an obstacle.
    /// </summary>
    private static int FreeItems<TMemory>(
        TMemory memory, PhysicalAddress table, int level, ulong index, int count, out PageTableStatus status)
        where TMemory : struct, IPhysicalMemory
    {
        status = PageTableStatus.Done;
        for (int free = EntrySpan.Of(memory, table, index, count).FirstNonZero(); free < count; free++)
        {
            if (!TryLoad(memory, table, index + (uint)free, out ulong entry))
            {
                status = PageTableStatus.DamagedTables;
                return 0;
            }
            if (!TFormat.IsPresent(entry)) { continue; }
            if (level == 0 || TFormat.IsLeaf(entry, level)) { status = PageTableStatus.AlreadyMapped; }
            return free;
        }
        return count;
    }

    private static PageTableStatus Fill<TMemory, TPages>(
        TMemory memory,
        PhysicalAddress table,
        int level,
        ulong index,
        int count,
        int size,
        TPages pages,
        ulong distance,
        DmaAccess access)
        where TMemory : struct, IPhysicalMemory
        where TPages : struct, IPageSource, allows ref struct
    {
        access = TFormat.Granted(access);
        ulong step = 1UL << Shift(level);
        EntrySpan entries = EntrySpan.Of(memory, table, index, count);
        if (entries.Length != 0)
        {
            entries.Fill(pages, distance, access, level, size);
            return PageTableStatus.Done;
        }
        for (int i = 0; i < count; i++, distance += step)
        {
            if (!TryStore(memory, table, index + (uint)i, TFormat.Leaf(pages[distance], access, level, size)))
            {
                return PageTableStatus.DamagedTables;
            }
        }
        return PageTableStatus.Done;
    }

    /// <summary>The largest allowed page that starts at both addresses and ends by <paramref name="last"/>.</summary>
    private static int BestPageSize(ulong sizes, ulong position, ulong last, ulong physical)
    {
        ulong length = last - position + 1;
        int fits = length == 0 ? 63 : BitOperations.Log2(length);
        int aligned = BitOperations.TrailingZeroCount(position | physical);
        return BitOperations.Log2(sizes & ((2UL << Math.Min(fits, aligned)) - 1));
    }

    /// <summary>
    /// Bytes from <paramref name="position"/> to map with one page size: to the end of the table, of the range, or to
    /// where a larger page begins to fit.
    /// </summary>
    private static ulong RunLength(ulong sizes, int size, ulong position, ulong tableLast, ulong last, ulong physical)
    {
        ulong larger = sizes & ~((2UL << size) - 1);
        if (larger != 0)
        {
            // Where the two addresses are not aligned alike no larger page ever fits. Beyond the next one's start the
            // run is chosen anew.
            int next = BitOperations.TrailingZeroCount(larger);
            ulong page = (1UL << next) - 1;
            ulong boundary = (position | page) + 1;
            if (((position ^ physical) & page) == 0 && boundary - 1 >= position && boundary - 1 < tableLast
                && last - boundary >= page)
            {
                return boundary - position;
            }
        }
        return ((tableLast - position - ((1UL << size) - 1)) >> size) + 1 << size;
    }

    /// <summary>
    /// The last offset inside a table of this level; for the root, inside all that the tables translate.
    /// </summary>
    private static ulong SpanLast(in PageTableRoot root, int level)
    {
        if (level < root.TopLevel) { return (1UL << Shift(level + 1)) - 1; }
        if (TFormat.IsFlat) { return (root.Entries << TFormat.GranuleLog2) - 1; }
        return ulong.MaxValue >> (64 - InputBits(in root));
    }
}
