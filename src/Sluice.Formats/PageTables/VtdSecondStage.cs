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
/// <remarks>VT-d specification 3.7 and 9.8.</remarks>
public readonly struct VtdSecondStage : IPageTableFormat<VtdSecondStage>
{
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    /// <inheritdoc/>
    public static string Name => "vtd-ss";

    /// <inheritdoc/>
    public static int GranuleLog2 => 12;

    /// <inheritdoc/>
    public static int IndexBits => 9;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 4;

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => new VtdSecondStageEntry(entry).IsPresent;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => level == 0 || new VtdSecondStageEntry(entry).IsLargeLeaf;

    /// <inheritdoc/>
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot table)
    {
        ulong reserved = AddressMask & (~0UL << table.PhysicalAddressBits);
        if (level > 0 && new VtdSecondStageEntry(entry).IsLargeLeaf)
        {
            if (((table.LeafLevels >> level) & 1) == 0) { return true; }
            reserved |= AddressMask & ((1UL << (GranuleLog2 + level * IndexBits)) - 1);
        }
        return (entry & reserved) != 0;
    }

    /// <inheritdoc/>
    public static DmaAccess Access(ulong entry) => new VtdSecondStageEntry(entry).Access;

    /// <inheritdoc/>
    public static PhysicalAddress Address(ulong entry, int level) => new VtdSecondStageEntry(entry).Address;
}
