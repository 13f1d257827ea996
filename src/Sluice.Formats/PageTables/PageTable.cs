using System.Runtime.CompilerServices;

namespace Sluice.Formats.PageTables;

/// <summary>
/// The one algorithm over all formats: walk, map, unmap, change rights, collect dirty pages, list. Allocates nothing
/// but table frames, which come from the caller. Entries are read and written in single accesses.
/// </summary>
/// <remarks>
/// Who changes tables owns the range it changes: no two threads change overlapping ranges at once. Disjoint ranges may
/// be changed by many threads while others walk; a walker sees an entry's old or its new word. Table entries are
/// installed by compare-and-swap, the loser gives its frame back.
/// </remarks>
/// <typeparam name="TFormat">The format, a struct.</typeparam>
public static partial class PageTable<TFormat>
    where TFormat : struct, IPageTableFormat<TFormat>
{
    /// <summary>
    /// The size that <c>Map</c> asks of the frame allocator for a table other than the root: at least a frame.
    /// </summary>
    public static int TableFrameLog2 => Math.Max(12, TFormat.IndexBits + TFormat.EntrySizeLog2);

    /// <summary>The size of the top table: what to allocate, naturally aligned, for a new set of tables.</summary>
    public static int RootSizeLog2(in PageTableRoot root) => TFormat.IsFlat
        ? TFormat.EntrySizeLog2 + Log2Ceiling(root.Entries)
        : InputBits(in root) - Shift(root.TopLevel) + TFormat.EntrySizeLog2;

    /// <summary>
    /// The address bits that the tables translate; flat formats are bounded by their entries instead.
    /// </summary>
    public static int InputBits(in PageTableRoot root) =>
        root.InputBits != 0 ? root.InputBits : Math.Min(64, Shift(root.TopLevel + 1));

    /// <summary>What one entry of <paramref name="level"/> spans.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Shift(int level) => TFormat.GranuleLog2 + level * TFormat.IndexBits;

    private static int PhysicalBits(in PageTableRoot root) =>
        Math.Min(root.PhysicalAddressBits, TFormat.PhysicalAddressBits);

    private static int Log2Ceiling(ulong value) =>
        value <= 1 ? 0 : 64 - System.Numerics.BitOperations.LeadingZeroCount(value - 1);

    /// <summary>
    /// The distance of an address from the first that the tables translate; false when they do not translate it.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryGetOffset(in PageTableRoot root, LogicalAddress address, out ulong offset)
    {
        if (TFormat.IsFlat)
        {
            offset = address - root.Base;
            return offset >> TFormat.GranuleLog2 < root.Entries;
        }
        offset = address.Value;
        int bits = root.InputBits != 0 ? root.InputBits : Shift(root.TopLevel + 1);
        if (bits >= 64) { return true; }
        if (TFormat.SignExtends(in root))
        {
            int unused = 64 - bits;
            offset = offset << unused >> unused;
            return (long)(address.Value << unused) >> unused == (long)address.Value;
        }
        return offset >> bits == 0;
    }

    /// <summary>The address at a distance that <see cref="TryGetOffset"/> gave.</summary>
    private static LogicalAddress Extend(in PageTableRoot root, ulong offset)
    {
        if (TFormat.IsFlat) { return root.Base + offset; }
        int unused = 64 - InputBits(in root);
        return new(TFormat.SignExtends(in root) ? (ulong)((long)(offset << unused) >> unused) : offset);
    }

    /// <summary>
    /// The distances of both ends; false unless the tables translate the whole range without a hole in it.
    /// </summary>
    private static bool TryGetOffsets(in PageTableRoot root, LogicalRange range, out ulong first, out ulong last)
    {
        bool inside = TryGetOffset(in root, range.Last, out last);
        return TryGetOffset(in root, range.First, out first) && inside && last - first == range.LengthMinusOne;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryLoad<TMemory>(TMemory memory, PhysicalAddress table, ulong index, out ulong entry)
        where TMemory : struct, IPhysicalMemory
    {
        if (TFormat.EntrySizeLog2 == 3)
        {
            if (memory.TryRead64(table + (index << 3), out ulong word))
            {
                entry = Word(word);
                return true;
            }
        }
        else if (memory.TryRead32(table + (index << 2), out uint half))
        {
            entry = Half(half);
            return true;
        }
        entry = 0;
        return false;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool TryStore<TMemory>(TMemory memory, PhysicalAddress table, ulong index, ulong entry)
        where TMemory : struct, IPhysicalMemory
    {
        return TFormat.EntrySizeLog2 == 3
            ? memory.TryWrite64(table + (index << 3), Word(entry))
            : memory.TryWrite32(table + (index << 2), Half((uint)entry));
    }

    /// <summary>
    /// Replaces a 64-bit entry if it is still what it was. 32-bit formats have no bits that hardware sets: a store will
    /// do.
    /// </summary>
    private static bool TrySwap<TMemory>(TMemory memory, PhysicalAddress table, ulong index, ulong old, ulong entry,
        out ulong observed)
        where TMemory : struct, IPhysicalMemory
    {
        observed = old;
        if (TFormat.EntrySizeLog2 != 3) { return TryStore(memory, table, index, entry); }
        bool found = memory.TryCompareExchange64(table + (index << 3), Word(old), Word(entry), out ulong word);
        observed = Word(word);
        return found;
    }
}
