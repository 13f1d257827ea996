namespace Sluice.Formats.PageTables;

/// <summary>
/// The AMD64 northbridge's GART used as a remapping table: one flat table of 32-bit entries over an aperture, 4 KiB
/// pages, no rights.
/// <code>
///  31                          12 11           4  3  2  1  0
/// ┌──────────────────────────────┬───────────────┬─────┬──┬──┐
/// │   page [31:12]               │ page [39:32]  │  –  │CO│ V│
/// └──────────────────────────────┴───────────────┴─────┴──┴──┘
/// </code>
/// </summary>
/// <remarks>
/// AMD BIOS and kernel developer's guide, function 3 registers 0x90 to 0x9C; Linux <c>asm/gart.h</c>.
/// </remarks>
public readonly struct Gart : IPageTableFormat<Gart>
{
    private const ulong Valid = 1 << 0, Coherent = 1 << 1, LowMask = 0xFFFF_F000;

    /// <inheritdoc/>
    public static string Name => "gart";

    /// <inheritdoc/>
    public static int GranuleLog2 => 12;

    /// <inheritdoc/>
    public static int IndexBits => 19;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 0;

    /// <inheritdoc/>
    public static int PhysicalAddressBits => 40;

    /// <inheritdoc/>
    public static int EntrySizeLog2 => 2;

    /// <inheritdoc/>
    public static bool IsFlat => true;

    /// <inheritdoc/>
    public static DmaAccess Granted(DmaAccess access) => DmaAccess.ReadWrite;

    /// <inheritdoc/>
    public static ulong PageSizes(in PageTableRoot root) => 1UL << GranuleLog2;

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => (entry & Valid) != 0;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => true;

    /// <inheritdoc/>
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root) =>
        Address(entry, level).Value >> root.PhysicalAddressBits != 0;

    /// <inheritdoc/>
    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root) =>
        (entry & Valid) != 0 ? DmaAccess.ReadWrite : DmaAccess.None;

    /// <inheritdoc/>
    public static PhysicalAddress Address(ulong entry, int level) => new((entry & LowMask) | (entry & 0xFF0) << 28);

    /// <inheritdoc/>
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2) =>
        (item.Value & LowMask) | (item.Value >> 28 & 0xFF0) | Coherent | Valid;

    /// <inheritdoc/>
    public static ulong Table(PhysicalAddress table, int level) => 0;
}
