using System.Runtime.CompilerServices;

namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>
    /// Translates one address. At most <see cref="PageTableRoot.TopLevel"/> + 1 loads; nothing allocated; safe beside
    /// writers.
    /// </summary>
    public static Translation Walk<TMemory>(TMemory memory, in PageTableRoot root, LogicalAddress address)
        where TMemory : struct, IPhysicalMemory
    {
        // The usual way down: tables that restrict nothing, told by one compare each, then a leaf of the smallest page.
        // Whatever looks different is sorted out by the general loop.
        int level = root.TopLevel;
        if (!TryGetOffset(in root, address, out ulong offset))
        {
            return new(WalkStatus.OutOfRange, default, DmaAccess.None, Shift(level));
        }
        PhysicalAddress table = root.Table;
        ulong mask = TFormat.TableMask(in root);
        ulong index = offset >> Shift(level);
        ulong entry = 0;
        while (true)
        {
            if (!TryLoad(memory, table, index, out entry))
            {
                return new(WalkStatus.BadPointer, default, DmaAccess.ReadWrite, Shift(level));
            }
            if (level <= 0) { break; }
            if ((entry & mask) != TFormat.Table(default, level))
            {
                return WalkOn(memory, in root, offset, new(table, level), entry);
            }
            table = TFormat.TableAddress(entry);
            level--;
            index = (offset >> Shift(level)) & ((1UL << TFormat.IndexBits) - 1);
        }
        DmaAccess access = TFormat.Access(entry, 0, in root);
        if (access == DmaAccess.None || TFormat.HasReservedBits(entry, 0, in root))
        {
            return WalkOn(memory, in root, offset, new(table, 0), entry);
        }
        if (!IsSmallest(entry)) { return Found(entry, 0, offset, access); }
        ulong inPage = offset & ((1UL << TFormat.GranuleLog2) - 1);
        return new(WalkStatus.Mapped, TFormat.Address(entry, 0) + inPage, access, TFormat.GranuleLog2);
    }

    private static Translation Found(ulong entry, int level, ulong offset, DmaAccess access)
    {
        int size = TFormat.LeafSizeLog2(entry, level);
        ulong inPage = offset & ((1UL << (TFormat.ItemsHoldOwnAddress ? Shift(level) : size)) - 1);
        return new(WalkStatus.Mapped, TFormat.Address(entry, level) + inPage, access, size);
    }

    /// <summary>Goes on from an entry that was read at <paramref name="step"/>, below tables that restrict
    /// nothing.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Translation WalkOn<TMemory>(TMemory memory, in PageTableRoot root, ulong offset, TableStep step,
        ulong entry)
        where TMemory : struct, IPhysicalMemory
    {
        DmaAccess access = DmaAccess.ReadWrite;
        (PhysicalAddress table, int level) = step;
        while (true)
        {
            int shift = Shift(level);
            access &= TFormat.Access(entry, level, in root);
            if (access == DmaAccess.None)
            {
                bool isReserved = TFormat.IsPresent(entry) && TFormat.HasReservedBits(entry, level, in root);
                return new(isReserved ? WalkStatus.ReservedBits : WalkStatus.NotPresent, default, DmaAccess.None,
                    shift);
            }
            if (TFormat.HasReservedBits(entry, level, in root))
            {
                return new(WalkStatus.ReservedBits, default, access, shift);
            }
            if (TFormat.IsLeaf(entry, level)) { return Found(entry, level, offset, access); }
            table = TFormat.Address(entry, level);
            level = TFormat.NextLevel(entry, level);
            ulong below = offset & ((1UL << shift) - 1);
            // Address bits that a skipped level would have used must be zero.
            if (level < 0 || (TFormat.SkipsLevels && below >> Shift(level + 1) != 0))
            {
                return new(WalkStatus.NotPresent, default, DmaAccess.None, Shift(Math.Max(level, 0)));
            }
            if (!TryLoad(memory, table, below >> Shift(level), out entry))
            {
                return new(WalkStatus.BadPointer, default, access, Shift(level));
            }
        }
    }

    /// <summary>A table on the way down.</summary>
    private readonly record struct TableStep(PhysicalAddress Table, int Level);
}
