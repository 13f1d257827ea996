namespace Sluice.Formats.PageTables;

/// <summary>
/// What the one algorithm must know of a format: constants and bit functions, no control flow.
/// Level 0 is the level that holds only leaves, whatever the specification calls it; sizes are powers of two, as <c>…Log2</c>.
/// </summary>
/// <typeparam name="TSelf">The format itself, a struct: the just-in-time compiler then folds every member to an immediate.</typeparam>
public interface IPageTableFormat<TSelf>
    where TSelf : struct, IPageTableFormat<TSelf>
{
    /// <summary>The name on the command line.</summary>
    static abstract string Name { get; }

    /// <summary>Size of the smallest page.</summary>
    static abstract int GranuleLog2 { get; }

    /// <summary>Index bits per level.</summary>
    static abstract int IndexBits { get; }

    /// <summary>The highest top level the format has.</summary>
    static abstract int MaximumTopLevel { get; }

    /// <summary>Whether the entry is there at all.</summary>
    static abstract bool IsPresent(ulong entry);

    /// <summary>Whether a present entry at <paramref name="level"/> maps a page.</summary>
    static abstract bool IsLeaf(ulong entry, int level);

    /// <summary>Whether a present entry has a bit set that the hardware described by <paramref name="table"/> reserves.</summary>
    static abstract bool HasReservedBits(ulong entry, int level, in PageTableRoot table);

    /// <summary>What a present entry grants.</summary>
    static abstract DmaAccess Access(ulong entry);

    /// <summary>The page or next table of a present entry.</summary>
    static abstract PhysicalAddress Address(ulong entry, int level);
}
