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
        int level = root.TopLevel;
        int shift = Shift(level);
        if (!TryGetOffset(in root, address, out ulong offset))
        {
            return new(WalkStatus.OutOfRange, default, DmaAccess.None, shift);
        }
        PhysicalAddress table = root.Table;
        DmaAccess access = DmaAccess.ReadWrite;
        while (true)
        {
            if (!TryLoad(memory, table, offset >> shift, out ulong entry))
            {
                return new(WalkStatus.BadPointer, default, access, shift);
            }
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
            table = TFormat.Address(entry, level);
            if (TFormat.IsLeaf(entry, level))
            {
                int size = TFormat.LeafSizeLog2(entry, level);
                return new(WalkStatus.Mapped, table + address.OffsetIn(TFormat.ItemsHoldOwnAddress
                    ? shift
                    : size), access, size);
            }
            offset &= (1UL << shift) - 1;
            if (TFormat.SkipsLevels)
            {
                // Address bits that a skipped level would have used must be zero.
                level = TFormat.NextLevel(entry, level);
                shift = Shift(level);
                if (offset >> shift >> TFormat.IndexBits != 0)
                {
                    return new(WalkStatus.NotPresent, default, DmaAccess.None, shift);
                }
                continue;
            }
            level--;
            shift -= TFormat.IndexBits;
            if (level < 0) { return new(WalkStatus.NotPresent, default, DmaAccess.None, TFormat.GranuleLog2); }
        }
    }
}
