namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>Clears every leaf in a range; parts that are not mapped are passed over.</summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="range">
    /// Whole pages; the caller owns it. One that begins or ends inside a larger page is refused, nothing cleared.
    /// </param>
    /// <param name="gather">
    /// Receives tables that the range covers whole: they are out of the tree. Invalidate (leaves, and what caches
    /// pointers to tables when any was gathered), then free them.
    /// </param>
    /// <returns>What was cleared. The device may still use it until an invalidation has completed.</returns>
    public static PageTableChange Unmap<TMemory>(TMemory memory, in PageTableRoot root, LogicalRange range,
        ref TableGather gather)
        where TMemory : struct, IPhysicalMemory
    {
        if (!TryGetOffsets(in root, range, out ulong first, out ulong last))
        {
            return new(PageTableStatus.OutOfRange, 0);
        }
        if (((first | ~last) & ((1UL << TFormat.GranuleLog2) - 1)) != 0) { return new(PageTableStatus.Misaligned, 0); }

        // The usual case: the range lies in one table. Go there without recursion.
        PhysicalAddress table = root.Table;
        int level = root.TopLevel;
        ulong mask = TFormat.TableMask(in root);
        while (level > 0)
        {
            int shift = Shift(level);
            ulong within = (1UL << shift) - 1;
            if (first >> shift != last >> shift || last - first == within) { break; }
            if (!TryLoad(memory, table, first >> shift, out ulong entry))
            {
                return new(PageTableStatus.DamagedTables, 0);
            }
            if ((entry & mask) == TFormat.Table(default, level))
            {
                table = TFormat.TableAddress(entry);
                level--;
                first &= within;
                last &= within;
                continue;
            }
            if (!TFormat.IsPresent(entry)) { return new(PageTableStatus.Done, 0); }
            if (TFormat.HasReservedBits(entry, level, in root)) { return new(PageTableStatus.DamagedTables, 0); }
            if (TFormat.IsLeaf(entry, level)) { return new(PageTableStatus.WouldSplit, 0); }
            int next = TFormat.NextLevel(entry, level);
            if ((last & within) >> Shift(next + 1) != 0) { break; }
            table = TFormat.Address(entry, level);
            level = next;
            first &= within;
            last &= within;
        }
        // A page that begins before the range is met before anything is cleared; one that ends after it must be looked
        // for.
        bool isWhole = level == 0 && !TFormat.LeavesSpanItems;
        if (!isWhole && !EndsOnPage(memory, in root, table, level, last)) { return new(PageTableStatus.WouldSplit, 0); }
        Clearing cleared = default;
        PageTableStatus status = Clear(memory, in root, table, level, first, last, ref cleared, ref gather);
        return new(status, cleared.Bytes, cleared.PageSizes);
    }

    private static PageTableStatus Clear<TMemory>(
        TMemory memory,
        in PageTableRoot root,
        PhysicalAddress table,
        int level,
        ulong first,
        ulong last,
        ref Clearing cleared,
        ref TableGather gather)
        where TMemory : struct, IPhysicalMemory
    {
        if (level == 0) { return ClearLeaves(memory, in root, table, first, last, ref cleared); }
        int shift = Shift(level);
        ulong within = (1UL << shift) - 1;
        ulong end = last >> shift;
        for (ulong index = first >> shift; index <= end; index++)
        {
            if (!TryLoad(memory, table, index, out ulong entry)) { return PageTableStatus.DamagedTables; }
            if (!TFormat.IsPresent(entry)) { continue; }
            if (TFormat.HasReservedBits(entry, level, in root)) { return PageTableStatus.DamagedTables; }
            if (TFormat.IsLeaf(entry, level))
            {
                if (!cleared.TryAdd(TFormat.LeafSizeLog2(entry, level), shift, index, first, last))
                {
                    return PageTableStatus.WouldSplit;
                }
                TryStore(memory, table, index, 0);
                continue;
            }
            ulong from = index == first >> shift ? first & within : 0;
            ulong to = index == end ? last & within : within;
            int next = TFormat.NextLevel(entry, level);
            ulong reach = (1UL << Shift(next + 1)) - 1;
            PhysicalAddress lower = TFormat.Address(entry, level);
            if (from > reach) { continue; }
            PageTableStatus status = Clear(memory, in root, lower, next, from, Math.Min(to, reach), ref cleared,
                ref gather);
            if (status != PageTableStatus.Done) { return status; }
            if (from == 0 && to == within)
            {
                TryStore(memory, table, index, 0);
                gather.Add(memory, lower, TableFrameLog2);
            }
        }
        return PageTableStatus.Done;
    }

    private static PageTableStatus ClearLeaves<TMemory>(
        TMemory memory, in PageTableRoot root, PhysicalAddress table, ulong first, ulong last, ref Clearing cleared)
        where TMemory : struct, IPhysicalMemory
    {
        ulong index = first >> TFormat.GranuleLog2;
        int count = (int)((last >> TFormat.GranuleLog2) - index) + 1;
        EntrySpan entries = EntrySpan.Of(memory, table, index, count);
        ulong pages = 0;
        PageTableStatus status = PageTableStatus.Done;
        for (int done = 0; done < count && status == PageTableStatus.Done; done++)
        {
            done += entries.Clear(done, ref pages);
            if (done >= count) { break; }
            if (!TryLoad(memory, table, index + (uint)done, out ulong entry))
            {
                status = PageTableStatus.DamagedTables;
            }
            else if (TFormat.IsPresent(entry))
            {
                if (IsSmallest(entry)) { pages++; }
                else { status = CountLarge(entry, in root, index + (uint)done, first, last, ref cleared); }
                if (status == PageTableStatus.Done) { TryStore(memory, table, index + (uint)done, 0); }
            }
        }
        cleared.Bytes += pages << TFormat.GranuleLog2;
        if (pages != 0) { cleared.PageSizes |= 1UL << TFormat.GranuleLog2; }
        return status;
    }

    private static bool IsSmallest(ulong entry) =>
        !TFormat.LeavesSpanItems || TFormat.LeafSizeLog2(entry, 0) == TFormat.GranuleLog2;

    private static PageTableStatus CountLarge(
        ulong entry, in PageTableRoot root, ulong index, ulong first, ulong last, ref Clearing cleared)
    {
        if (TFormat.HasReservedBits(entry, 0, in root)) { return PageTableStatus.DamagedTables; }
        return cleared.TryAdd(TFormat.LeafSizeLog2(entry, 0), TFormat.GranuleLog2, index, first, last)
            ? PageTableStatus.Done
            : PageTableStatus.WouldSplit;
    }

    /// <summary>Whether no page that holds <paramref name="last"/> goes on after it.</summary>
    private static bool EndsOnPage<TMemory>(TMemory memory, in PageTableRoot root, PhysicalAddress table, int level,
        ulong last)
        where TMemory : struct, IPhysicalMemory
    {
        while (true)
        {
            int shift = Shift(level);
            ulong within = (1UL << shift) - 1;
            if (!TryLoad(memory, table, last >> shift, out ulong entry)
                || !TFormat.IsPresent(entry) || TFormat.HasReservedBits(entry, level, in root))
            {
                return true;
            }
            if (level == 0 || TFormat.IsLeaf(entry, level))
            {
                ulong inPage = (1UL << TFormat.LeafSizeLog2(entry, level)) - 1;
                return (last & inPage) == inPage;
            }
            if ((last & within) == within) { return true; }
            table = TFormat.Address(entry, level);
            level = TFormat.NextLevel(entry, level);
            last &= within;
            if (last >> Shift(level + 1) != 0) { return true; }
        }
    }

    private struct Clearing
    {
        public ulong Bytes;
        public ulong PageSizes;

        /// <summary>Counts one item of a leaf; false when the leaf reaches out of the range.</summary>
        public bool TryAdd(int size, int shift, ulong index, ulong first, ulong last)
        {
            ulong start = index << shift >> size << size;
            if (start < first || start > last || last - start < (1UL << size) - 1) { return false; }
            Bytes += 1UL << shift;
            PageSizes |= 1UL << size;
            return true;
        }
    }
}
