using static System.Runtime.CompilerServices.MethodImplOptions;
using Impl = System.Runtime.CompilerServices.MethodImplAttribute;

namespace Sluice.Formats.PageTables;

/// <summary>What differs between the generations of Apple's DART.</summary>
public interface IDartModel
{
    /// <summary>The format's name on the command line.</summary>
    static abstract string Name { get; }

    /// <summary>The highest top level: 1 for 36 bits of address, 2 for 47.</summary>
    static abstract int MaximumTopLevel { get; }

    /// <summary>Whether entries have the first layout rather than the second.</summary>
    static abstract bool IsFirst { get; }
}

/// <summary>T8020 family, also t8103 (M1).</summary>
public readonly struct DartT8020 : IDartModel
{
    /// <inheritdoc/>
    public static string Name => "dart-t8020";

    /// <inheritdoc/>
    public static int MaximumTopLevel => 1;

    /// <inheritdoc/>
    public static bool IsFirst => true;
}

/// <summary>T6000 (M1 Pro, Max, Ultra).</summary>
public readonly struct DartT6000 : IDartModel
{
    /// <inheritdoc/>
    public static string Name => "dart-t6000";

    /// <inheritdoc/>
    public static int MaximumTopLevel => 1;

    /// <inheritdoc/>
    public static bool IsFirst => false;
}

/// <summary>T8110 (M2 and later): one more level for wide addresses.</summary>
public readonly struct DartT8110 : IDartModel
{
    /// <inheritdoc/>
    public static string Name => "dart-t8110";

    /// <inheritdoc/>
    public static int MaximumTopLevel => 2;

    /// <inheritdoc/>
    public static bool IsFirst => false;
}

/// <summary>
/// Apple DART: 16 KiB granule, 2048 entries a table, 2 levels (36 bits), on t8110 3 (47 bits). Leaves are at level 0
/// only.
/// <code>
/// first    63    52 51    40 39    36 35                  12 11  9  8  7  6       2  1  0
/// (t8020) ┌────────┬────────┬────────┬──────────────────────┬─────┬──┬──┬──────────┬──┬──┐
///         │sub from│ sub to │   –    │ table or page [35:12]│  –  │NR│NW│    –     │SD│ V│
///         └────────┴────────┴────────┴──────────────────────┴─────┴──┴──┴──────────┴──┴──┘
/// second   63    52 51    40 39 38 37                  10  9           4  3  2  1  0
/// (t6000) ┌────────┬────────┬─────┬──────────────────────┬──────────────┬──┬──┬──┬──┐
///         │sub from│ sub to │  –  │ table or page [41:14]│      –       │NR│NW│NC│ V│
///         └────────┴────────┴─────┴──────────────────────┴──────────────┴──┴──┴──┴──┘
/// NR, NW  the device may not read, may not write; SD sub-page protection off; NC not cached
/// </code>
/// </summary>
/// <remarks>
/// Linux <c>io-pgtable-dart.c</c> and m1n1 <c>dart.py</c>; there is no public specification. Leaves are written for the
/// whole page (sub-page 0 to FFF); a walk answers for the page and leaves the sub-page bounds, which Linux never
/// narrows, to its reader.
/// </remarks>
/// <typeparam name="TModel">The generation.</typeparam>
public readonly struct Dart<TModel> : IPageTableFormat<Dart<TModel>>
    where TModel : struct, IDartModel
{
    private const ulong Valid = 1, SubPageOff = 1 << 1, WholePage = 0xFFFUL << 40;
    private const ulong FirstMask = 0xF_FFFF_F000, SecondMask = 0x3F_FFFF_FC00;
    private const int SecondShift = 4;
    private static ulong NoWrite => TModel.IsFirst ? 1UL << 7 : 1UL << 2;
    private static ulong NoRead => TModel.IsFirst ? 1UL << 8 : 1UL << 3;

    /// <inheritdoc/>
    public static string Name => TModel.Name;

    /// <inheritdoc/>
    public static int GranuleLog2 => 14;

    /// <inheritdoc/>
    public static int IndexBits => 11;

    /// <inheritdoc/>
    public static int MaximumTopLevel => TModel.MaximumTopLevel;

    /// <inheritdoc/>
    public static int PhysicalAddressBits => TModel.IsFirst ? 36 : 42;

    /// <inheritdoc/>
    public static ulong PageSizes(in PageTableRoot root) => 1UL << GranuleLog2;

    /// <inheritdoc/>
    public static bool IsPresent(ulong entry) => (entry & Valid) != 0;

    /// <inheritdoc/>
    public static bool IsLeaf(ulong entry, int level) => level == 0;

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static bool HasReservedBits(ulong entry, int level, in PageTableRoot root)
    {
        ulong address = Address(entry, level).Value;
        return (address & ((1UL << GranuleLog2) - 1)) != 0 || address >> root.PhysicalAddressBits != 0;
    }

    /// <inheritdoc/>
    public static ulong TableMask(in PageTableRoot root) =>
        Table(new(ulong.MaxValue << root.PhysicalAddressBits | ((1UL << GranuleLog2) - 1)), 1);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static DmaAccess Access(ulong entry, int level, in PageTableRoot root)
    {
        if ((entry & Valid) == 0) { return DmaAccess.None; }
        if (level > 0) { return DmaAccess.ReadWrite; }
        return ((entry & NoRead) == 0 ? DmaAccess.Read : 0) | ((entry & NoWrite) == 0 ? DmaAccess.Write : 0);
    }

    /// <inheritdoc/>
    public static PhysicalAddress Address(ulong entry, int level) =>
        new(TModel.IsFirst ? entry & FirstMask : (entry & SecondMask) << SecondShift);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2) =>
        Table(item, level) | WholePage | (TModel.IsFirst ? SubPageOff : 0)
        | ((access & DmaAccess.Read) == 0 ? NoRead : 0) | ((access & DmaAccess.Write) == 0 ? NoWrite : 0);

    /// <inheritdoc/>
    [Impl(AggressiveInlining)]
    public static ulong Table(PhysicalAddress table, int level) =>
        Valid | (TModel.IsFirst ? table.Value & FirstMask : table.Value >> SecondShift & SecondMask);
}
