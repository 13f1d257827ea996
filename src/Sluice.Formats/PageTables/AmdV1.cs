using System.Numerics;
using static System.Runtime.CompilerServices.MethodImplOptions;
using Impl = System.Runtime.CompilerServices.MethodImplAttribute;

namespace Sluice.Formats.PageTables;

/// <summary>
/// AMD-Vi version 1 (host) tables: 4 KiB granule, 512 entries a table, 1 to 6 levels, every page size, levels may be
/// skipped.
/// <code>
///  63 62 61 60 59 58 57 56  52 51                         12 11   9 8  7  6  5  4   1  0
/// ┌──┬──┬──┬──┬──┬─────┬──────┬─────────────────────────────┬──────┬────┬──┬──┬──────┬──┐
/// │ –│IW│IR│FC│ U│ PMC │  –   │   table or page [51:12]     │ next │  – │ D│ A│  –   │PR│
/// └──┴──┴──┴──┴──┴─────┴──────┴─────────────────────────────┴──────┴────┴──┴──┴──────┴──┘
/// next level   0 leaf of the level's size
///            1–6 table of that level (1 is the leaf level, here level 0); below the entry's own
///              7 leaf of 2^(1 + n) bytes, n the lowest clear bit of the address field; in all items it covers
/// </code>
/// IR and IW are ANDed over the levels. Address bits of a skipped level must be zero.
/// </summary>
/// <remarks>
/// AMD-Vi specification (48882) 2.2.3. Written as Linux does: no leaves in the top table, none of 512 GiB. The sixth
/// level has 7 index bits.
/// </remarks>
public readonly struct AmdV1 : IPageTableFormat<AmdV1>
{
    private const ulong Present = 1 << 0, ReadBit = 1UL << 61, WriteBit = 1UL << 62;
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;
    private const int NextShift = 9, Sized = 7, AccessShift = 61;

    /// <inheritdoc/>
    public static string Name => "amdv1";

    /// <inheritdoc/>
    public static int GranuleLog2 => 12;

    /// <inheritdoc/>
    public static int IndexBits => 9;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 5;

    /// <inheritdoc/>
    public static ulong DirtyBit => 1 << 6;

    /// <inheritdoc/>
    public static ulong AccessedBit => 1 << 5;

    /// <inheritdoc/>
    public static bool LeavesSpanItems => true;

    /// <inheritdoc/>
    public static bool SkipsLevels => true;

    /// <inheritdoc/>
    public static ulong PageSizes(in PageTableRoot root)
    {
        int end = Math.Min(52, GranuleLog2 + Math.Max(1, root.TopLevel) * IndexBits);
        return ((1UL << end) - 1) & ~((1UL << GranuleLog2) - 1) & ~(1UL << 39);
    }

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => (entry & Present) != 0;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => Next(entry) is 0 or Sized;

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root)
    {
        int next = Next(entry);
        ulong address = entry & AddressMask;
        if (next is not (0 or Sized)) { return next > level || address >> root.PhysicalAddressBits != 0; }
        int natural = GranuleLog2 + level * IndexBits;
        if (next == 0) { return (address & ((1UL << natural) - 1) | address >> root.PhysicalAddressBits) != 0; }
        int size = SizeLog2(entry);
        return size < natural || address >> size << size >> root.PhysicalAddressBits != 0;
    }

    /// <inheritdoc/>
    public static ulong TableMask(in PageTableRoot root) => Present | ReadBit | WriteBit | 7UL << NextShift
        | (AddressMask & ulong.MaxValue << root.PhysicalAddressBits);

    /// <inheritdoc/>
    public static PhysicalAddress TableAddress(ulong entry) => new(entry & AddressMask);

    /// <inheritdoc/>
    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root) =>
        (DmaAccess)((entry >> AccessShift) & 3 & (0 - (entry & Present)));

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static PhysicalAddress Address(ulong entry, int level)
    {
        ulong address = entry & AddressMask;
        return new(Next(entry) == Sized ? address & ~((1UL << SizeLog2(entry)) - 1) : address);
    }

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static int LeafSizeLog2(ulong entry, int level) =>
        Next(entry) == Sized ? SizeLog2(entry) : GranuleLog2 + level * IndexBits;

    /// <inheritdoc/>
    public static int NextLevel(ulong entry, int level) => Next(entry) - 1;

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2)
    {
        ulong word = Present | (ulong)access << AccessShift;
        if (sizeLog2 == GranuleLog2 + level * IndexBits) { return word | (item.Value & AddressMask); }
        ulong size = ((1UL << (sizeLog2 - 1)) - 1) & AddressMask;
        return word | (item.AlignDown(sizeLog2).Value & AddressMask) | size | (ulong)Sized << NextShift;
    }

    /// <inheritdoc/>
    public static ulong Table(PhysicalAddress table, int level) =>
        (table.Value & AddressMask) | Present | ReadBit | WriteBit | (ulong)level << NextShift;

    [Impl(AggressiveInlining)]
    private static int Next(ulong entry) => (int)(entry >> NextShift) & 7;

    [Impl(AggressiveInlining)]
    private static int SizeLog2(ulong entry) => 1 + BitOperations.TrailingZeroCount(~((entry & AddressMask) | 0xFFF));
}
