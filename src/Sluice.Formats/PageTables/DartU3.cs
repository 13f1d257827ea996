namespace Sluice.Formats.PageTables;

/// <summary>
/// PowerPC DART of the U3 and U4 bridges (CPC925, CPC945): one flat table of 32-bit big-endian entries, 4 KiB pages, no
/// rights.
/// <code>
///  31 30        24 23                               0
/// ┌──┬────────────┬──────────────────────────────────┐
/// │ V│     –      │   page [35:12]                   │
/// └──┴────────────┴──────────────────────────────────┘
/// </code>
/// </summary>
/// <remarks>Linux <c>arch/powerpc/sysdev/dart.h</c>. Unmapped slots hold a valid dummy page under Linux.</remarks>
public readonly struct DartU3 : IPageTableFormat<DartU3>
{
    private const ulong Valid = 1UL << 31, PageMask = 0xFF_FFFF;

    /// <inheritdoc/>
    public static string Name => "dart-u3";

    /// <inheritdoc/>
    public static int GranuleLog2 => 12;

    /// <inheritdoc/>
    public static int IndexBits => 19;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 0;

    /// <inheritdoc/>
    public static int PhysicalAddressBits => 36;

    /// <inheritdoc/>
    public static int EntrySizeLog2 => 2;

    /// <inheritdoc/>
    public static bool BigEndian => true;

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
    public static PhysicalAddress Address(ulong entry, int level) => new((entry & PageMask) << GranuleLog2);

    /// <inheritdoc/>
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2) =>
        Valid | (item.Value >> GranuleLog2 & PageMask);

    /// <inheritdoc/>
    public static ulong Table(PhysicalAddress table, int level) => 0;
}
