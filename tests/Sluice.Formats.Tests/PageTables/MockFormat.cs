using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// No hardware's format: 2 KiB pages, 7 index bits, 5 levels, leaves everywhere. It proves that nothing assumes 4 KiB
/// or 9 bits. It has the default table mask, so that its walks take the general loop.
/// </summary>
public readonly struct MockFormat : IPageTableFormat<MockFormat>
{
    private const ulong Valid = 1, Link = 2, Used = 1 << 4, Written = 1 << 5;

    public static string Name => "mock";

    public static int GranuleLog2 => 11;

    public static int IndexBits => 7;

    public static int MaximumTopLevel => 6;

    public static int PhysicalAddressBits => 51;

    public static ulong DirtyBit => Written;

    public static ulong AccessedBit => Used;

    public static ulong PageSizes(in PageTableRoot root) => 0x0000_0080_0200_0800UL | 1UL << 18 | 1UL << 32;

    public static bool IsPresent(ulong entry) => (entry & Valid) != 0;

    public static bool IsLeaf(ulong entry, int level) => (entry & Link) == 0;

    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root) =>
        (Address(entry, level).Value & (IsLeaf(entry, level) ? (1UL << (11 + 7 * level)) - 1 : 0)) != 0;

    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root) =>
        !IsPresent(entry) ? DmaAccess.None
        : IsLeaf(entry, level) ? (DmaAccess)(entry >> 2 & 3)
        : level == 0 ? DmaAccess.None : DmaAccess.ReadWrite;

    public static PhysicalAddress Address(ulong entry, int level) => new(entry >> 11 << 11);

    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2) =>
        item.Value | (ulong)access << 2 | Valid;

    public static ulong Table(PhysicalAddress table, int level) => table.Value | Link | Valid;
}
