using static System.Runtime.CompilerServices.MethodImplOptions;
using Impl = System.Runtime.CompilerServices.MethodImplAttribute;

namespace Sluice.Formats.PageTables;

/// <summary>
/// RISC-V Sv39, Sv48, Sv57 and their second-stage forms Sv39x4, Sv48x4, Sv57x4: 4 KiB granule, 512 entries a table, 3
/// to 5 levels, a leaf at any, 64 KiB leaves (Svnapot).
/// <code>
///  63 62 61 60 59 58  54 53                         10 9  8  7  6  5  4  3  2  1  0
/// ┌──┬─────┬─────┬──────┬─────────────────────────────┬─────┬──┬──┬──┬──┬──┬──┬──┬──┐
/// │ N│PBMT │ SW  │ res. │   table or page [55:12]     │ RSW │ D│ A│ G│ U│ X│ W│ R│ V│
/// └──┴─────┴─────┴──────┴─────────────────────────────┴─────┴──┴──┴──┴──┴──┴──┴──┴──┘
/// </code>
/// R, W and X clear: a table. W without R is reserved. N in a leaf of level 0 with address bits 15:12 = 1000: one of 16
/// items of 64 KiB.
/// </summary>
/// <remarks>
/// RISC-V privileged specification, Sv39 to Sv57 and Svnapot; IOMMU specification 2.3. Two more root index bits
/// (<see cref="PageTableRoot.InputBits"/> set) mean second stage: addresses are not sign-extended, and U must be set
/// whoever asks. A first-stage request is a user request unless <see cref="PageTableRoot.Privileged"/>. A and D are
/// written set: hardware need not maintain them.
/// </remarks>
public readonly struct RiscV : IPageTableFormat<RiscV>
{
    private const ulong Valid = 1 << 0, ReadBit = 1 << 1, WriteBit = 1 << 2, ExecuteBit = 1 << 3, User = 1 << 4,
        Accessed = 1 << 6, Dirty = 1 << 7;
    private const ulong Napot = 1UL << 63, MemoryType = 3UL << 61, Reserved = 0x1FUL << 54, PageMask = (1UL << 44) - 1,
        AbovePage = ~0UL << 54;
    private const int PageShift = 10, NapotLog2 = 16;

    /// <inheritdoc/>
    public static string Name => "riscv";

    /// <inheritdoc/>
    public static int GranuleLog2 => 12;

    /// <inheritdoc/>
    public static int IndexBits => 9;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 4;

    /// <inheritdoc/>
    public static int PhysicalAddressBits => 56;

    /// <inheritdoc/>
    public static ulong DirtyBit => Dirty;

    /// <inheritdoc/>
    public static ulong AccessedBit => Accessed;

    /// <inheritdoc/>
    public static bool LeavesSpanItems => true;

    /// <inheritdoc/>
    public static bool SignExtends(in PageTableRoot root) => root.InputBits == 0;

    /// <inheritdoc/>
    public static DmaAccess Granted(DmaAccess access) => access | DmaAccess.Read;

    /// <inheritdoc/>
    public static ulong PageSizes(in PageTableRoot root) =>
        1UL << NapotLog2 | (0x0001_0080_4020_1000UL & ((2UL << (GranuleLog2 + root.TopLevel * IndexBits)) - 1));

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => (entry & Valid) != 0;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => (entry & (ReadBit | WriteBit | ExecuteBit)) != 0;

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root)
    {
        ulong address = Page(entry);
        ulong inPage = (1UL << (GranuleLog2 + level * IndexBits)) - 1;
        ulong reserved = address >> root.PhysicalAddressBits;
        // What most leaves are, by two branches.
        if ((entry & ReadBit) != 0 && ((entry & (Reserved | Napot | MemoryType)) | (address & inPage) | reserved) == 0)
        {
            return false;
        }
        if (!IsLeaf(entry, level))
        {
            return (reserved | (entry & (Reserved | Napot | MemoryType | Dirty | Accessed | User))) != 0;
        }
        reserved |= entry & Reserved;
        if ((entry & (ReadBit | WriteBit)) == WriteBit || (entry & MemoryType) == MemoryType) { return true; }
        reserved |= (entry & Napot) == 0
            ? address & inPage
            : (uint)level | ((address >> GranuleLog2 & 0xF) ^ 0b1000);
        return reserved != 0;
    }

    /// <inheritdoc/>
    public static ulong TableMask(in PageTableRoot root) =>
        Valid | ReadBit | WriteBit | ExecuteBit | User | Accessed | Dirty | AbovePage
        | (ulong.MaxValue << root.PhysicalAddressBits >> (GranuleLog2 - PageShift) & PageMask << PageShift);

    /// <inheritdoc/>
    public static PhysicalAddress TableAddress(ulong entry) => new(entry >> PageShift << GranuleLog2);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root)
    {
        // What most leaves are.
        var rights = (DmaAccess)((entry >> 1) & 3);
        if ((entry & (Valid | User)) == (Valid | User) && (level == 0 || rights != DmaAccess.None)) { return rights; }
        if ((entry & Valid) == 0) { return DmaAccess.None; }
        if (!IsLeaf(entry, level)) { return level == 0 ? DmaAccess.None : DmaAccess.ReadWrite; }
        return root.Privileged && root.InputBits == 0 ? rights : DmaAccess.None;
    }

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static PhysicalAddress Address(ulong entry, int level)
    {
        ulong address = Page(entry);
        return new((entry & Napot) != 0 ? address >> NapotLog2 << NapotLog2 : address);
    }

    /// <inheritdoc/>
    public static int LeafSizeLog2(ulong entry, int level) =>
        (entry & Napot) != 0 ? NapotLog2 : GranuleLog2 + level * IndexBits;

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2)
    {
        ulong word = Valid | User | Accessed | (ulong)access << 1 | ((access & DmaAccess.Write) != 0 ? Dirty : 0);
        return sizeLog2 == NapotLog2
            ? word | Napot | item.AlignDown(NapotLog2).Value >> GranuleLog2 << PageShift | 0b1000UL << PageShift
            : word | item.Value >> GranuleLog2 << PageShift;
    }

    /// <inheritdoc/>
    public static ulong Table(PhysicalAddress table, int level) => table.Value >> GranuleLog2 << PageShift | Valid;

    [Impl(AggressiveInlining)]
    private static ulong Page(ulong entry) => (entry & PageMask << PageShift) << (GranuleLog2 - PageShift);
}
