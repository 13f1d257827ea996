namespace Sluice.Formats.PageTables;

/// <summary>The one algorithm over all formats: walk, map, unmap. Entries are read and written in single accesses.</summary>
/// <typeparam name="TFormat">The format, a struct.</typeparam>
public static partial class PageTable<TFormat>
    where TFormat : struct, IPageTableFormat<TFormat>
{
    /// <summary>Translates one address. At most <see cref="PageTableRoot.TopLevel"/> + 1 loads; nothing allocated; safe beside writers.</summary>
    public static Translation Walk<TMemory>(TMemory memory, in PageTableRoot root, LogicalAddress address)
        where TMemory : struct, IPhysicalMemory
    {
        int shift = TFormat.GranuleLog2 + (root.TopLevel + 1) * TFormat.IndexBits;
        if (shift < 64 && address.Value >> shift != 0) { return new(WalkStatus.OutOfRange, default, DmaAccess.None, shift); }
        PhysicalAddress table = root.Table;
        DmaAccess access = DmaAccess.ReadWrite;
        for (int level = root.TopLevel; level >= 0; level--)
        {
            shift -= TFormat.IndexBits;
            ulong index = (address.Value >> shift) & ((1UL << TFormat.IndexBits) - 1);
            if (!memory.TryRead64(table + index * sizeof(ulong), out ulong entry))
            {
                return new(WalkStatus.BadPointer, default, DmaAccess.None, shift);
            }
            if (!TFormat.IsPresent(entry)) { return new(WalkStatus.NotPresent, default, DmaAccess.None, shift); }
            if (TFormat.HasReservedBits(entry, level, in root)) { return new(WalkStatus.ReservedBits, default, DmaAccess.None, shift); }
            access &= TFormat.Access(entry);
            table = TFormat.Address(entry, level);
            if (TFormat.IsLeaf(entry, level))
            {
                return new(WalkStatus.Mapped, table + address.OffsetIn(shift), access, shift);
            }
        }
        return new(WalkStatus.ReservedBits, default, DmaAccess.None, TFormat.GranuleLog2);
    }
}
