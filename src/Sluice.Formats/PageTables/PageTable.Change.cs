namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>Whether the format records which pages a device wrote to.</summary>
    public static bool RecordsDirty => TFormat.RecordsDirty;

    /// <summary>
    /// Changes the rights of every mapped page in a range; parts that are not mapped are passed over.
    /// </summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="range">
    /// Whole pages; the caller owns it. One that begins or ends inside a larger page is refused, nothing changed.
    /// </param>
    /// <param name="access">The new rights.</param>
    /// <returns>
    /// What was changed. The device may still have the old rights until an invalidation has completed.
    /// </returns>
    public static PageTableChange ChangeAccess<TMemory>(TMemory memory, in PageTableRoot root, LogicalRange range,
        DmaAccess access)
        where TMemory : struct, IPhysicalMemory
    {
        if (access == DmaAccess.None) { return new(PageTableStatus.NoAccess, 0); }
        if (!TryGetOffsets(in root, range, out ulong first, out ulong last))
        {
            return new(PageTableStatus.OutOfRange, 0);
        }
        if (((first | ~last) & ((1UL << TFormat.GranuleLog2) - 1)) != 0) { return new(PageTableStatus.Misaligned, 0); }
        if (!EndsOnPage(memory, in root, root.Table, root.TopLevel, last))
        {
            return new(PageTableStatus.WouldSplit, 0);
        }
        AccessChange change = new() { Access = TFormat.Granted(access), Root = root };
        PageTableStatus status = ForEachItem(memory, in root, root.Table, root.TopLevel, 0, first, last, ref change);
        return new(status, change.Done.Bytes, change.Done.PageSizes);
    }

    /// <summary>
    /// Finds the pages that a device wrote to, and forgets it if asked. Where a large page was written, all of it that
    /// lies in the range counts.
    /// </summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="range">Whole pages.</param>
    /// <param name="clear">
    /// Whether to clear the bits; an invalidation must follow before new writes are recorded again.
    /// </param>
    /// <param name="dirty">
    /// One bit per smallest page from the start of the range is set, lowest bit first; others are left as they are.
    /// </param>
    /// <exception cref="ArgumentException">
    /// <paramref name="dirty"/> has fewer bits than the range has pages.
    /// </exception>
    /// <exception cref="NotSupportedException">
    /// The format does not record it, see <see cref="RecordsDirty"/>.
    /// </exception>
    public static PageTableStatus CollectDirty<TMemory>(
        TMemory memory, in PageTableRoot root, LogicalRange range, bool clear, Span<ulong> dirty)
        where TMemory : struct, IPhysicalMemory
    {
        if (!RecordsDirty)
        {
            throw new NotSupportedException($"{TFormat.Name} tables do not record which pages were written");
        }
        if (!TryGetOffsets(in root, range, out ulong first, out ulong last)) { return PageTableStatus.OutOfRange; }
        if (((first | ~last) & ((1UL << TFormat.GranuleLog2) - 1)) != 0) { return PageTableStatus.Misaligned; }
        if (range.LengthMinusOne >> TFormat.GranuleLog2 >> 6 >= (ulong)dirty.Length)
        {
            throw new ArgumentException($"{dirty.Length} words are too few for the pages of {range}", nameof(dirty));
        }
        DirtyCollection collection = new(dirty, clear);
        return ForEachItem(memory, in root, root.Table, root.TopLevel, 0, first, last, ref collection);
    }

    /// <summary>
    /// Adds a level on top, so that the tables translate wider addresses; what is mapped stays mapped.
    /// </summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="frames">Gives the new top table.</param>
    /// <param name="grown">The same tables under the new top; hardware goes on with the old until told of it.</param>
    /// <returns>
    /// False when the format has no higher level, its addresses depend on their number, or no frame is left.
    /// </returns>
    public static bool TryGrow<TMemory>(TMemory memory, in PageTableRoot root, IFrameAllocator frames,
        out PageTableRoot grown)
        where TMemory : struct, IPhysicalMemory
    {
        grown = root;
        int level = root.TopLevel + 1;
        if (level > TFormat.MaximumTopLevel || root.InputBits != 0 || TFormat.IsFlat || TFormat.SignExtends(in root))
        {
            return false;
        }
        PhysicalAddress last = new((1UL << PhysicalBits(in root)) - 1);
        if (!frames.TryAllocate(FrameKind.UnitTable, TableFrameLog2, out PhysicalAddress table, last)) { return false; }
        if (!TryStore(memory, table, 0, TFormat.Table(root.Table, level)))
        {
            frames.Free(table, TableFrameLog2);
            return false;
        }
        grown = root with { Table = table, TopLevel = level };
        return true;
    }

    /// <summary>Something to do with each leaf item; specialised like the format.</summary>
    private interface IItemAction
    {
        PageTableStatus Visit<TMemory>(TMemory memory, PhysicalAddress table, ulong index, ulong entry, int level,
            ItemPlace place)
            where TMemory : struct, IPhysicalMemory;
    }

    /// <summary>Where an item is: its first offset, and the range of the whole operation.</summary>
    private readonly record struct ItemPlace(ulong Offset, ulong First, ulong Last);

    private static PageTableStatus ForEachItem<TMemory, TAction>(
        TMemory memory, in PageTableRoot root, PhysicalAddress table, int level, ulong start, ulong first, ulong last,
        ref TAction action)
        where TMemory : struct, IPhysicalMemory
        where TAction : struct, IItemAction, allows ref struct
    {
        int shift = Shift(level);
        ulong tableLast = start + SpanLast(in root, level);
        ulong index = (Math.Max(first, start) - start) >> shift;
        ulong end = (Math.Min(last, tableLast) - start) >> shift;
        for (; index <= end; index++)
        {
            if (!TryLoad(memory, table, index, out ulong entry)) { return PageTableStatus.DamagedTables; }
            if (!TFormat.IsPresent(entry)) { continue; }
            if (TFormat.HasReservedBits(entry, level, in root)) { return PageTableStatus.DamagedTables; }
            ulong offset = start + (index << shift);
            PageTableStatus status;
            if (level == 0 || TFormat.IsLeaf(entry, level))
            {
                status = action.Visit(memory, table, index, entry, level, new(offset, first, last));
            }
            else
            {
                // A table below a skipped level may end before the range: then there is nothing to do in it.
                status = ForEachItem(memory, in root, TFormat.Address(entry, level), TFormat.NextLevel(entry, level),
                    offset, first, last, ref action);
            }
            if (status != PageTableStatus.Done) { return status; }
        }
        return PageTableStatus.Done;
    }

    private struct AccessChange : IItemAction
    {
        public required DmaAccess Access;
        public required PageTableRoot Root;
        public Clearing Done;

        public PageTableStatus Visit<TMemory>(TMemory memory, PhysicalAddress table, ulong index, ulong entry,
            int level, ItemPlace place)
            where TMemory : struct, IPhysicalMemory
        {
            int size = TFormat.LeafSizeLog2(entry, level), shift = Shift(level);
            if (!Done.TryAdd(size, shift, place.Offset >> shift, place.First, place.Last))
            {
                return PageTableStatus.WouldSplit;
            }
            while (true)
            {
                // Accessed and dirty bits stay as they are, except those that new rights come with. Hardware may set
                // them meanwhile.
                PhysicalAddress page = TFormat.Address(entry, level);
                ulong fresh = TFormat.Leaf(page, Access, level, size);
                ulong before = TFormat.Leaf(page, TFormat.Access(entry, level, in Root), level, size);
                ulong changed = (fresh & ~(TFormat.AccessedBit & before)) | (entry & TFormat.AccessedBit);
                bool isDirty = TFormat.IsDirty(entry) || (TFormat.IsDirty(fresh) && !TFormat.IsDirty(before));
                changed = TFormat.WithDirty(changed, isDirty);
                if (!TrySwap(memory, table, index, entry, changed, out ulong observed))
                {
                    return PageTableStatus.DamagedTables;
                }
                if (observed == entry) { return PageTableStatus.Done; }
                if (!TFormat.IsPresent(observed)) { return PageTableStatus.DamagedTables; }
                entry = observed;
            }
        }
    }

    private readonly ref struct DirtyCollection(Span<ulong> dirty, bool clear) : IItemAction
    {
        private readonly Span<ulong> _dirty = dirty;

        public PageTableStatus Visit<TMemory>(TMemory memory, PhysicalAddress table, ulong index, ulong entry,
            int level, ItemPlace place)
            where TMemory : struct, IPhysicalMemory
        {
            if (!TFormat.IsDirty(entry)) { return PageTableStatus.Done; }
            int size = TFormat.LeafSizeLog2(entry, level);
            ulong from = Math.Max(place.Offset >> size << size, place.First);
            ulong to = Math.Min(place.Offset | ((1UL << size) - 1), place.Last);
            ulong end = (to - place.First) >> TFormat.GranuleLog2;
            for (ulong page = (from - place.First) >> TFormat.GranuleLog2; page <= end; page++)
            {
                _dirty[(int)(page >> 6)] |= 1UL << (int)(page & 63);
            }
            while (clear && TFormat.IsDirty(entry))
            {
                if (!TrySwap(memory, table, index, entry, TFormat.WithDirty(entry, false), out ulong observed))
                {
                    return PageTableStatus.DamagedTables;
                }
                if (observed == entry) { break; }
                entry = observed;
            }
            return PageTableStatus.Done;
        }
    }
}
