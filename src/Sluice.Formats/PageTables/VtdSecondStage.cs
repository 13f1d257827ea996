using System.Runtime.CompilerServices;

namespace Sluice.Formats.PageTables;

/// <summary>
/// VT-d second stage: 4 KiB granule, 512 entries a table, 3 to 5 levels.
/// <code>
/// level  maps by     specification's name
///   4    256 TiB     SS-PML5
///   3    512 GiB     SS-PML4
///   2      1 GiB     SS-PDPT, may hold leaves
///   1      2 MiB     SS-PD, may hold leaves
///   0      4 KiB     SS-PT
/// </code>
/// </summary>
/// <remarks>
/// VT-d specification 3.7 and 9.8. Large leaves are an option of the hardware: <see cref="PageTableRoot.LeafLevels"/>.
/// </remarks>
public readonly struct VtdSecondStage : IPageTableFormat<VtdSecondStage>
{
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    // Bit 11 is snoop control in leaves of hardware that has it and reserved elsewhere; bit 62 is reserved since
    // revision 3.2.
    private const ulong LeafBit = 1 << 7;
    private const ulong SnoopBit = 1 << 11;
    private const ulong TransientMapping = 1UL << 62;

    /// <inheritdoc/>
    public static string Name => "vtd-ss";

    /// <inheritdoc/>
    public static int GranuleLog2 => 12;

    /// <inheritdoc/>
    public static int IndexBits => 9;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 4;

    /// <inheritdoc/>
    public static ulong DirtyBit => 1 << 9;

    /// <inheritdoc/>
    public static ulong AccessedBit => 1 << 8;

    /// <inheritdoc/>
    public static ulong PageSizes(in PageTableRoot root) =>
        1UL << 12 | (root.LeafLevels & 0b010UL) << (21 - 1) | (root.LeafLevels & 0b100UL) << (30 - 2);

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => new VtdSecondStageEntry(entry).IsPresent;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => level == 0 || new VtdSecondStageEntry(entry).IsLargeLeaf;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root)
    {
        ulong address = entry & AddressMask;
        bool isLeaf = IsLeaf(entry, level);
        ulong mustBeZero = isLeaf && root.SnoopControl ? TransientMapping : TransientMapping | SnoopBit;
        if ((entry & mustBeZero) != 0) { return true; }
        if (level > 0 && new VtdSecondStageEntry(entry).IsLargeLeaf)
        {
            ulong inPage = address & ((1UL << (GranuleLog2 + level * IndexBits)) - 1);
            return level > 2 || ((root.LeafLevels >> level) & 1) == 0
                || (inPage | address >> root.PhysicalAddressBits) != 0;
        }
        return address >> root.PhysicalAddressBits != 0;
    }

    /// <inheritdoc/>
    public static ulong TableMask(in PageTableRoot root) =>
        0b11 | LeafBit | SnoopBit | TransientMapping | (AddressMask & ulong.MaxValue << root.PhysicalAddressBits);

    /// <inheritdoc/>
    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root) =>
        new VtdSecondStageEntry(entry).Access;

    /// <inheritdoc/>
    public static PhysicalAddress Address(ulong entry, int level) => new VtdSecondStageEntry(entry).Address;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2) =>
        VtdSecondStageEntry.Leaf(item, access, level).Word;

    /// <inheritdoc/>
    public static ulong Table(PhysicalAddress table, int level) => VtdSecondStageEntry.Table(table).Word;
}
