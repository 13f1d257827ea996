using static System.Runtime.CompilerServices.MethodImplOptions;
using Impl = System.Runtime.CompilerServices.MethodImplAttribute;

namespace Sluice.Formats.PageTables;

/// <summary>
/// x86-64 long mode: 4 KiB granule, 512 entries a table, 4 or 5 levels; VT-d's first stage and AMD-Vi's version 2
/// (guest) tables.
/// <code>
///  63 62        52 51                         12 11     9  8  7  6  5  4  3  2  1  0
/// ┌──┬────────────┬─────────────────────────────┬────────┬──┬──┬──┬──┬──┬──┬──┬──┬──┐
/// │XD│     –      │   table or page [51:12]     │   –    │ G│PS│ D│ A│CD│WT│US│RW│ P│
/// └──┴────────────┴─────────────────────────────┴────────┴──┴──┴──┴──┴──┴──┴──┴──┴──┘
/// </code>
/// RW and US are ANDed over the levels. PS means "leaf" at levels 1 and 2 and is reserved above.
/// </summary>
/// <remarks>
/// Intel SDM 3A 4.5, VT-d specification 9.7, AMD-Vi specification 2.2.6. A request is a user request unless <see
/// cref="PageTableRoot.Privileged"/>: a page without US is out of its reach. Bit 12 of a large leaf, PAT to a
/// processor, is address here and so must be clear.
/// </remarks>
public readonly struct X86 : IPageTableFormat<X86>
{
    private const ulong Present = 1 << 0, Writable = 1 << 1, User = 1 << 2, Large = 1 << 7;
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    /// <inheritdoc/>
    public static string Name => "x86";

    /// <inheritdoc/>
    public static int GranuleLog2 => 12;

    /// <inheritdoc/>
    public static int IndexBits => 9;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 4;

    /// <inheritdoc/>
    public static ulong DirtyBit => 1 << 6;

    /// <inheritdoc/>
    public static ulong AccessedBit => 1 << 5;

    /// <inheritdoc/>
    public static bool SignExtends(in PageTableRoot root) => true;

    /// <inheritdoc/>
    public static DmaAccess Granted(DmaAccess access) => access | DmaAccess.Read;

    /// <inheritdoc/>
    public static ulong PageSizes(in PageTableRoot root) =>
        1UL << 12 | (root.LeafLevels & 0b010UL) << (21 - 1) | (root.LeafLevels & 0b100UL) << (30 - 2);

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => (entry & Present) != 0;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => level == 0 || (entry & Large) != 0;

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root)
    {
        ulong address = entry & AddressMask;
        if (level > 0 && (entry & Large) != 0)
        {
            ulong inPage = address & ((1UL << (GranuleLog2 + level * IndexBits)) - 1);
            return level > 2 || ((root.LeafLevels >> level) & 1) == 0
                || (inPage | address >> root.PhysicalAddressBits) != 0;
        }
        return address >> root.PhysicalAddressBits != 0;
    }

    /// <inheritdoc/>
    public static ulong TableMask(in PageTableRoot root) =>
        Present | Writable | User | Large | (AddressMask & ulong.MaxValue << root.PhysicalAddressBits);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root)
    {
        bool granted = (entry & Present) != 0 && ((entry & User) != 0 || root.Privileged);
        return granted ? DmaAccess.Read | (DmaAccess)(entry & Writable) : DmaAccess.None;
    }

    /// <inheritdoc/>
    public static PhysicalAddress Address(ulong entry, int level) => new(entry & AddressMask);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2) =>
        (item.Value & AddressMask) | Present | User | ((ulong)access & Writable) | (level > 0 ? Large : 0);

    /// <inheritdoc/>
    public static ulong Table(PhysicalAddress table, int level) =>
        (table.Value & AddressMask) | Present | User | Writable;
}
