using System.Runtime.CompilerServices;

namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>
    /// Splits the pages that a range begins or ends inside, so that both its ends lie between pages. Translations,
    /// rights, accessed and dirty marks stay as they are.
    /// </summary>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="frames">Gives the tables of smaller leaves; all that are needed are taken first.</param>
    /// <param name="range">Whole pages of the smallest size; the caller owns it and the pages its ends lie in.</param>
    /// <remarks>
    /// A leaf is replaced by a filled table in one compare-and-swap; a leaf of several items (Arm's contiguous hint,
    /// NAPOT, AMD's odd sizes) becomes single ones item by item. A walker sees the old or the new, which translate
    /// alike. Hardware may cache the old page until the caller's invalidation; Arm units need BBML 2 to change a page
    /// in use this way.
    /// </remarks>
    /// <returns>
    /// Done; or nothing was changed: no frames, or <see cref="PageTableStatus.WouldSplit"/> where the format has no
    /// smaller page for it (AMD pages of 1 TiB and more).
    /// </returns>
    public static PageTableStatus Split<TMemory>(TMemory memory, in PageTableRoot root, IFrameAllocator frames,
        LogicalRange range)
        where TMemory : struct, IPhysicalMemory
    {
        if (!TryGetOffsets(in root, range, out ulong first, out ulong last)) { return PageTableStatus.OutOfRange; }
        if (((first | ~last) & ((1UL << TFormat.GranuleLog2) - 1)) != 0) { return PageTableStatus.Misaligned; }
        // Where the space ends no page goes on; zero lies inside no page.
        ulong end = last == SpanLast(in root, root.TopLevel) ? 0 : last + 1;
        SpareTables spare = default;
        PageTableStatus status = Reserve(memory, in root, frames, first, ref spare);
        if (status == PageTableStatus.Done) { status = Reserve(memory, in root, frames, end, ref spare); }
        if (status == PageTableStatus.Done) { status = SplitAt(memory, in root, first, ref spare); }
        if (status == PageTableStatus.Done) { status = SplitAt(memory, in root, end, ref spare); }
        while (spare.Count > 0) { frames.Free(spare.Take(), TableFrameLog2); }
        return status;
    }

    /// <summary>
    /// As <see cref="Unmap{TMemory}(TMemory, in PageTableRoot, LogicalRange, ref TableGather)"/>, but splits the larger
    /// pages that the range begins or ends inside.
    /// </summary>
    /// <inheritdoc cref="Unmap{TMemory}(TMemory, in PageTableRoot, LogicalRange, ref TableGather)"/>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="range">Whole pages; the caller owns it and the pages its ends lie in.</param>
    /// <param name="gather">Receives tables that the range covers whole.</param>
    /// <param name="frames">Gives tables for what is split; without enough nothing changes.</param>
    public static PageTableChange Unmap<TMemory>(TMemory memory, in PageTableRoot root, LogicalRange range,
        ref TableGather gather, IFrameAllocator frames)
        where TMemory : struct, IPhysicalMemory
    {
        PageTableStatus status = Split(memory, in root, frames, range);
        return status == PageTableStatus.Done ? Unmap(memory, in root, range, ref gather) : new(status, 0);
    }

    /// <summary>
    /// As <see cref="ChangeAccess{TMemory}(TMemory, in PageTableRoot, LogicalRange, DmaAccess)"/>, but splits the
    /// larger pages that the range begins or ends inside.
    /// </summary>
    /// <inheritdoc cref="ChangeAccess{TMemory}(TMemory, in PageTableRoot, LogicalRange, DmaAccess)"/>
    /// <param name="memory">Where the tables lie.</param>
    /// <param name="root">The tables.</param>
    /// <param name="range">Whole pages; the caller owns it and the pages its ends lie in.</param>
    /// <param name="access">The new rights.</param>
    /// <param name="frames">Gives tables for what is split; without enough nothing changes.</param>
    public static PageTableChange ChangeAccess<TMemory>(TMemory memory, in PageTableRoot root, LogicalRange range,
        DmaAccess access, IFrameAllocator frames)
        where TMemory : struct, IPhysicalMemory
    {
        if (access == DmaAccess.None) { return new(PageTableStatus.NoAccess, 0); }
        PageTableStatus status = Split(memory, in root, frames, range);
        return status == PageTableStatus.Done ? ChangeAccess(memory, in root, range, access) : new(status, 0);
    }

    /// <summary>Takes the frames that a cut before <paramref name="offset"/> needs, or finds that none can be
    /// made.</summary>
    private static PageTableStatus Reserve<TMemory>(TMemory memory, in PageTableRoot root, IFrameAllocator frames,
        ulong offset, ref SpareTables spare)
        where TMemory : struct, IPhysicalMemory
    {
        PageTableStatus status = Find(memory, in root, offset, out Item item);
        if (status != PageTableStatus.Done || item.Entry == 0) { return status; }
        ulong sizes = TFormat.PageSizes(in root);
        int size = TFormat.LeafSizeLog2(item.Entry, item.Level);
        // A size that says it fills more items than its table has: rewriting them would leave the table.
        if (size > Shift(item.Level + 1)) { return PageTableStatus.DamagedTables; }
        bool isGroup = size > Shift(item.Level);
        if (isGroup && (sizes >> Shift(item.Level) & 1) == 0) { return PageTableStatus.WouldSplit; }
        for (int level = item.Level; (offset & ((1UL << Shift(level)) - 1)) != 0; level--)
        {
            if ((sizes >> Shift(level - 1) & 1) == 0) { return PageTableStatus.WouldSplit; }
            PhysicalAddress reach = new((1UL << PhysicalBits(in root)) - 1);
            if (!frames.TryAllocate(FrameKind.UnitTable, TableFrameLog2, out PhysicalAddress frame, reach))
            {
                return PageTableStatus.NoFrames;
            }
            spare.Give(frame);
        }
        return PageTableStatus.Done;
    }

    private static PageTableStatus SplitAt<TMemory>(TMemory memory, in PageTableRoot root, ulong offset,
        ref SpareTables spare)
        where TMemory : struct, IPhysicalMemory
    {
        // Each round ends a group or goes a level down.
        for (int rounds = 0; rounds <= 2 * TFormat.MaximumTopLevel + 2; rounds++)
        {
            PageTableStatus status = Find(memory, in root, offset, out Item item);
            if (status != PageTableStatus.Done || item.Entry == 0) { return status; }
            status = TFormat.LeafSizeLog2(item.Entry, item.Level) > Shift(item.Level)
                ? Ungroup(memory, in root, item)
                : Replace(memory, in root, item, ref spare);
            if (status != PageTableStatus.Done) { return status; }
        }
        return PageTableStatus.DamagedTables;
    }

    /// <summary>The leaf that goes on across the start of <paramref name="offset"/>; no entry when none does.</summary>
    private static PageTableStatus Find<TMemory>(TMemory memory, in PageTableRoot root, ulong offset, out Item item)
        where TMemory : struct, IPhysicalMemory
    {
        item = default;
        PhysicalAddress table = root.Table;
        int level = root.TopLevel;
        while (offset != 0)
        {
            int shift = Shift(level);
            if (!TryLoad(memory, table, offset >> shift, out ulong entry)) { return PageTableStatus.DamagedTables; }
            if (!TFormat.IsPresent(entry)) { break; }
            if (TFormat.HasReservedBits(entry, level, in root)) { return PageTableStatus.DamagedTables; }
            if (level == 0 || TFormat.IsLeaf(entry, level))
            {
                ulong inPage = (1UL << TFormat.LeafSizeLog2(entry, level)) - 1;
                if ((offset & inPage) != 0) { item = new(table, offset >> shift, level, entry); }
                break;
            }
            table = TFormat.Address(entry, level);
            level = TFormat.NextLevel(entry, level);
            offset &= (1UL << shift) - 1;
            if (offset >> Shift(level + 1) != 0) { break; }
        }
        return PageTableStatus.Done;
    }

    /// <summary>Puts a table of leaves one level down in the place of a leaf.</summary>
    private static PageTableStatus Replace<TMemory>(TMemory memory, in PageTableRoot root, Item item,
        ref SpareTables spare)
        where TMemory : struct, IPhysicalMemory
    {
        if (spare.Count == 0) { return PageTableStatus.DamagedTables; }
        int level = item.Level, lower = level - 1, size = Shift(lower);
        PhysicalAddress frame = spare.Take();
        ulong entry = item.Entry;
        // Hardware may set the accessed bit, and the dirty one, while the table is filled: then it is filled again.
        for (int tries = 0; tries < 3; tries++)
        {
            PhysicalAddress page = TFormat.Address(entry, level);
            DmaAccess access = TFormat.Access(entry, level, in root);
            ulong beyond = entry ^ TFormat.Leaf(page, access, level, Shift(level));
            bool filled = true;
            for (ulong i = 0; i < 1UL << TFormat.IndexBits && filled; i++)
            {
                ulong part = TFormat.Leaf(page + (i << size), access, lower, size) ^ beyond;
                filled = TryStore(memory, frame, i, part);
            }
            ulong observed = 0;
            ulong link = TFormat.Table(frame, level);
            if (!filled || !TrySwap(memory, item.Table, item.Index, entry, link, out observed)) { break; }
            if (observed == entry) { return PageTableStatus.Done; }
            if (Unmarked(observed) != Unmarked(entry)) { break; }
            entry = observed;
        }
        spare.Give(frame);
        return PageTableStatus.DamagedTables;
    }

    /// <summary>
    /// Turns the items of a large leaf into leaves of their own. Marks on any of them may stand for all: all get them.
    /// </summary>
    private static PageTableStatus Ungroup<TMemory>(TMemory memory, in PageTableRoot root, Item item)
        where TMemory : struct, IPhysicalMemory
    {
        int level = item.Level, shift = Shift(level), size = TFormat.LeafSizeLog2(item.Entry, level);
        ulong first = item.Index << shift >> size << size >> shift, count = 1UL << (size - shift);
        ulong used = 0;
        bool dirty = false;
        // What there is to carry over; the new words; what hardware marked meanwhile in those that were still old.
        for (int pass = 0; pass < 3; pass++)
        {
            for (ulong i = 0; i < count; i++)
            {
                if (!TryLoad(memory, item.Table, first + i, out ulong entry)) { return PageTableStatus.DamagedTables; }
                for (int tries = 0; tries < 4; tries++)
                {
                    if (!TFormat.IsPresent(entry) || (level > 0 && !TFormat.IsLeaf(entry, level))) { break; }
                    bool isOld = TFormat.LeafSizeLog2(entry, level) == size;
                    if (isOld)
                    {
                        used |= entry & TFormat.AccessedBit;
                        dirty |= TFormat.IsDirty(entry);
                        if (pass == 0) { break; }
                    }
                    ulong single = (isOld ? Single(entry, in root, level, size, i << shift) : entry) | used;
                    if (dirty) { single = TFormat.WithDirty(single, true); }
                    if (single == entry) { break; }
                    if (!TrySwap(memory, item.Table, first + i, entry, single, out ulong observed))
                    {
                        return PageTableStatus.DamagedTables;
                    }
                    if (observed == entry) { break; }
                    entry = observed;
                }
            }
        }
        return PageTableStatus.Done;
    }

    /// <summary>
    /// The item at <paramref name="distance"/> of a large leaf as a leaf of its level's natural size.
    /// </summary>
    private static ulong Single(ulong entry, in PageTableRoot root, int level, int size, ulong distance)
    {
        PhysicalAddress page = TFormat.Address(entry, level) + (TFormat.ItemsHoldOwnAddress ? 0 : distance);
        DmaAccess access = TFormat.Access(entry, level, in root);
        return entry ^ TFormat.Leaf(page, access, level, size) ^ TFormat.Leaf(page, access, level, Shift(level));
    }

    private static ulong Unmarked(ulong leaf) => TFormat.WithDirty(leaf, false) & ~TFormat.AccessedBit;

    /// <summary>One item of a table.</summary>
    private readonly record struct Item(PhysicalAddress Table, ulong Index, int Level, ulong Entry);

    /// <summary>Frames taken before anything is changed: two cuts need one for each level below the top.</summary>
    private struct SpareTables
    {
        private Frames _frames;

        public int Count { get; private set; }

        public void Give(PhysicalAddress frame) => _frames[Count++] = frame;

        public PhysicalAddress Take() => _frames[--Count];

        [InlineArray(16)]
        private struct Frames
        {
            private PhysicalAddress _first;
        }
    }
}
