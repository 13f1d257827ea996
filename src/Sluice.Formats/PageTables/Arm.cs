using static System.Runtime.CompilerServices.MethodImplOptions;
using Impl = System.Runtime.CompilerServices.MethodImplAttribute;

namespace Sluice.Formats.PageTables;

/// <summary>
/// Arm VMSAv8-64: granules of 4, 16 and 64 KiB with 9, 11 and 13 index bits; stage 1 and stage 2; the contiguous hint.
/// <code>
///  63 62 61 60     54 53 52 51 50  48 47                  12 11 10 9  8  7  6  5   2  1  0
/// ┌──┬──┬──┬─────────┬──┬──┬──┬──────┬──────────────────────┬──┬──┬─────┬─────┬──────┬─────┐
/// │NS│ APT │    –    │XN│CO│DB│  –   │ table or page [47:12]│nG│AF│ SH  │ AP  │ attr │type │
/// └──┴──┴──┴─────────┴──┴──┴──┴──────┴──────────────────────┴──┴──┴─────┴─────┴──────┴─────┘
/// type   3 table, at level 0 page;   1 block, at level 0 invalid
/// AP     stage 1: 7 read-only, 6 unprivileged may;   stage 2: 7 write, 6 read
/// APT    stage 1 tables: 62 no writes below, 61 nothing for unprivileged below
/// CO     one of a group of items, each with its own address, that lie and point contiguously
/// </code>
/// 64 KiB: address bits 51:48 are in 15:12.
/// </summary>
/// <remarks>
/// Arm ARM D8.3 to D8.5. A request is unprivileged unless <see cref="PageTableRoot.Privileged"/>. AF is written set and
/// not asked for in walks. Where the stage manages the dirty state, DBM marks a leaf as writable, and its write
/// permission is the dirty mark. Use <see cref="Shape"/> for roots.
/// </remarks>
/// <typeparam name="TGranule">The granule.</typeparam>
/// <typeparam name="TStage">The stage.</typeparam>
public readonly struct Arm<TGranule, TStage> : IPageTableFormat<Arm<TGranule, TStage>>
    where TGranule : struct, IArmGranule
    where TStage : struct, IArmStage
{
    private const ulong Valid = 1 << 0, TableOrPage = 1 << 1, Bit6 = 1 << 6, Bit7 = 1 << 7, InnerShareable = 3 << 8,
        Used = 1 << 10;
    private const ulong NotGlobal = 1 << 11, Contiguous = 1UL << 52, NoUnprivilegedBelow = 1UL << 61,
        NoWritesBelow = 1UL << 62, DirtyManaged = 1UL << 51;
    private const ulong WriteBackSecondStage = 0xF << 2;
    private static ulong AddressMask => 0x0000_FFFF_FFFF_FFFF & ~((1UL << TGranule.Log2) - 1);

    /// <inheritdoc/>
    public static string Name => TGranule.Name;

    /// <inheritdoc/>
    public static int GranuleLog2 => TGranule.Log2;

    /// <inheritdoc/>
    public static int IndexBits => TGranule.Log2 - 3;

    /// <inheritdoc/>
    public static int MaximumTopLevel => 3;

    /// <inheritdoc/>
    public static int PhysicalAddressBits => TGranule.Log2 == 16 ? 52 : 48;

    /// <inheritdoc/>
    public static bool LeavesSpanItems => true;

    /// <inheritdoc/>
    public static bool ItemsHoldOwnAddress => true;

    /// <inheritdoc/>
    public static ulong AccessedBit => Used;

    /// <inheritdoc/>
    public static bool RecordsDirty => TStage.ManagesDirty;

    /// <inheritdoc/>
    public static bool IsDirty(ulong leaf) => TStage.ManagesDirty && (leaf & DirtyManaged) != 0 && HasWrite(leaf);

    /// <inheritdoc/>
    public static ulong WithDirty(ulong leaf, bool dirty) =>
        TStage.ManagesDirty && (leaf & DirtyManaged) != 0 && HasWrite(leaf) != dirty ? leaf ^ Bit7 : leaf;

    /// <inheritdoc/>
    public static DmaAccess Granted(DmaAccess access) => TStage.IsSecond ? access : access | DmaAccess.Read;

    /// <summary>
    /// The shape of tables for an address width: the fewest levels; at stage 2 up to 16 tables side by side instead of
    /// one level more.
    /// </summary>
    public static PageTableRoot Shape(int inputBits)
    {
        int indexed = inputBits - TGranule.Log2;
        int top = (indexed - 1) / IndexBits;
        if (TStage.IsSecond && top > 0 && indexed - top * IndexBits <= 4) { top--; }
        return new(default, top, PhysicalAddressBits) { InputBits = inputBits };
    }

    /// <inheritdoc/>
    public static ulong PageSizes(in PageTableRoot root)
    {
        ulong sizes = 0;
        for (int level = 0; level <= root.TopLevel; level++)
        {
            int natural = GranuleLog2 + level * IndexBits;
            if (level == 0 || (TGranule.BlockLevels >> level & 1) != 0)
            {
                sizes |= 1UL << natural | 1UL << (natural + TGranule.ContiguousLog2(level));
            }
        }
        return sizes;
    }

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => (entry & Valid) != 0;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => level == 0 || (entry & TableOrPage) == 0;

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root)
    {
        ulong address = Address(entry, level).Value;
        ulong inPage = IsLeaf(entry, level) ? (1UL << (GranuleLog2 + level * IndexBits)) - 1 : 0;
        return (address & inPage) != 0 || address >> root.PhysicalAddressBits != 0;
    }

    /// <inheritdoc/>
    public static ulong TableMask(in PageTableRoot root) =>
        Valid | TableOrPage | (TStage.IsSecond ? 0 : NoUnprivilegedBelow | NoWritesBelow)
        | Encode(new(ulong.MaxValue << root.PhysicalAddressBits));

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root)
    {
        if ((entry & Valid) == 0) { return DmaAccess.None; }
        if (level > 0 && (entry & TableOrPage) != 0)
        {
            if (TStage.IsSecond) { return DmaAccess.ReadWrite; }
            if ((entry & NoUnprivilegedBelow) != 0 && !root.Privileged) { return DmaAccess.None; }
            return (entry & NoWritesBelow) != 0 ? DmaAccess.Read : DmaAccess.ReadWrite;
        }
        if (level == 0 ? (entry & TableOrPage) == 0 : (TGranule.BlockLevels >> level & 1) == 0)
        {
            return DmaAccess.None;
        }
        bool mayWrite = HasWrite(entry) || (TStage.ManagesDirty && (entry & DirtyManaged) != 0);
        DmaAccess write = mayWrite ? DmaAccess.Write : DmaAccess.None;
        if (TStage.IsSecond) { return write | (DmaAccess)(entry >> 6 & 1); }
        return (entry & Bit6) == 0 && !root.Privileged ? DmaAccess.None : DmaAccess.Read | write;
    }

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static PhysicalAddress Address(ulong entry, int level) =>
        new(TGranule.Log2 == 16 ? (entry & AddressMask) | (entry >> 12 & 0xF) << 48 : entry & AddressMask);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static int LeafSizeLog2(ulong entry, int level) =>
        GranuleLog2 + level * IndexBits + ((entry & Contiguous) != 0 ? TGranule.ContiguousLog2(level) : 0);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2)
    {
        ulong word = Encode(item) | Valid | (level == 0 ? TableOrPage : 0) | InnerShareable | Used;
        if (sizeLog2 != GranuleLog2 + level * IndexBits) { word |= Contiguous; }
        if (TStage.ManagesDirty && (access & DmaAccess.Write) != 0) { word |= DirtyManaged; }
        if (TStage.IsSecond) { return word | (ulong)access << 6 | WriteBackSecondStage; }
        return word | Bit6 | NotGlobal | ((access & DmaAccess.Write) == 0 ? Bit7 : 0);
    }

    /// <inheritdoc/>
    public static ulong Table(PhysicalAddress table, int level) => Encode(table) | Valid | TableOrPage;

    /// <summary>The write permission itself; with DBM it says that the page was written.</summary>
    [Impl(AggressiveInlining)]
    private static bool HasWrite(ulong leaf) => (leaf & Bit7) != 0 == TStage.IsSecond;

    [Impl(AggressiveInlining)]
    private static ulong Encode(PhysicalAddress address) =>
        (address.Value & AddressMask) | (TGranule.Log2 == 16 ? (address.Value >> 48 & 0xF) << 12 : 0);
}
