using System.Runtime.CompilerServices;

namespace Sluice.Formats.PageTables;

/// <summary>
/// What the one algorithm must know of a format: constants and bit functions, no control flow.
/// Level 0 is the level that holds only leaves, whatever the specification calls it; sizes are powers of two, as
/// <c>…Log2</c>. Members with a body fit most formats; a format states only where it differs.
/// </summary>
/// <remarks>
/// An entry is one item of a table, widened to 64 bits and in the processor's byte order. A leaf larger than its
/// level's natural size fills several items: <see cref="LeafSizeLog2"/> tells its size from any of them.
/// </remarks>
/// <typeparam name="TSelf">
/// The format itself, a struct: the just-in-time compiler then folds every member to an immediate.
/// </typeparam>
public interface IPageTableFormat<TSelf>
    where TSelf : struct, IPageTableFormat<TSelf>
{
    /// <summary>The name on the command line.</summary>
    static abstract string Name { get; }

    /// <summary>Size of the smallest page.</summary>
    static abstract int GranuleLog2 { get; }

    /// <summary>
    /// Index bits per level; the root may take fewer or more, see <see cref="PageTableRoot.InputBits"/>.
    /// </summary>
    static abstract int IndexBits { get; }

    /// <summary>The highest top level the format has; 0 for a flat table.</summary>
    static abstract int MaximumTopLevel { get; }

    /// <summary>Bits of physical address that entries can hold.</summary>
    static virtual int PhysicalAddressBits => 52;

    /// <summary>Bytes of an entry: 3 for 64-bit words, 2 for 32-bit words.</summary>
    static virtual int EntrySizeLog2 => 3;

    /// <summary>Whether entries lie in memory with the highest byte first.</summary>
    static virtual bool BigEndian => false;

    /// <summary>Whether there is one table of <see cref="PageTableRoot.Entries"/> entries over an aperture.</summary>
    static virtual bool IsFlat => false;

    /// <summary>Whether a leaf may fill several items.</summary>
    static virtual bool LeavesSpanItems => false;

    /// <summary>
    /// Whether each item of a large leaf holds its own address (Arm's contiguous hint) rather than all the same word
    /// (AMD's next-level 7, RISC-V's NAPOT).
    /// </summary>
    static virtual bool ItemsHoldOwnAddress => false;

    /// <summary>
    /// Set by hardware in a leaf that a device wrote through; 0 where the format has none, or says it otherwise.
    /// </summary>
    static virtual ulong DirtyBit => 0;

    /// <summary>Set by hardware in a leaf that a device used; 0 where the format has none.</summary>
    static virtual ulong AccessedBit => 0;

    /// <summary>Whether hardware records in leaves which pages a device wrote to.</summary>
    static virtual bool RecordsDirty => TSelf.DirtyBit != 0;

    /// <summary>Whether a leaf says that a device wrote through it.</summary>
    static virtual bool IsDirty(ulong leaf) => (leaf & TSelf.DirtyBit) != 0;

    /// <summary>The same leaf with or without that mark; one that cannot have it stays as it is.</summary>
    static virtual ulong WithDirty(ulong leaf, bool dirty) =>
        dirty ? leaf | TSelf.DirtyBit : leaf & ~TSelf.DirtyBit;

    /// <summary>Whether addresses whose top input bit is set are written with all bits above it set.</summary>
    static virtual bool SignExtends(in PageTableRoot root) => false;

    /// <summary>
    /// The least the format can grant that includes <paramref name="access"/>: where there is no write-only, both.
    /// </summary>
    static virtual DmaAccess Granted(DmaAccess access) => access;

    /// <summary>
    /// The page sizes <c>Map</c> may use: bit n for 2^n bytes. A size belongs to level (n − granule) ÷ index bits.
    /// </summary>
    static abstract ulong PageSizes(in PageTableRoot root);

    /// <summary>
    /// Whether the slot is in use. Slots that are not may be overwritten. A page-aligned address is never present.
    /// </summary>
    static abstract bool IsPresent(ulong entry);

    /// <summary>Whether a present entry at <paramref name="level"/> maps a page.</summary>
    static abstract bool IsLeaf(ulong entry, int level);

    /// <summary>
    /// Whether a present entry has a bit set that the hardware described by <paramref name="root"/> reserves, lies
    /// askew for its size, or leads to a level not below its own.
    /// </summary>
    static abstract bool HasReservedBits(ulong entry, int level, in PageTableRoot root);

    /// <summary>
    /// What the entry alone lets a device do; <see cref="DmaAccess.None"/> when absent, or of no valid type here.
    /// </summary>
    static abstract DmaAccess Access(ulong entry, int level, in PageTableRoot root);

    /// <summary>
    /// The page (of a large leaf, its first byte, or the item's with <see cref="ItemsHoldOwnAddress"/>) or the next
    /// table.
    /// </summary>
    static abstract PhysicalAddress Address(ulong entry, int level);

    /// <summary>The size of a present leaf.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static virtual int LeafSizeLog2(ulong entry, int level) => TSelf.GranuleLog2 + level * TSelf.IndexBits;

    /// <summary>Whether an entry may lead to any level below its own.</summary>
    static virtual bool SkipsLevels => false;

    /// <summary>The level of the table that a present non-leaf entry leads to.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static virtual int NextLevel(ulong entry, int level) => level - 1;

    /// <summary>
    /// The bits in which an entry above level 0 must equal <see cref="Table"/> of address 0 to be what most are:
    /// present, free of reserved bits, restricting nothing, leading one level down. Only speed hangs on it: an entry
    /// that differs is taken apart by the other members. With all bits, the default, most do.
    /// </summary>
    static virtual ulong TableMask(in PageTableRoot root) => ulong.MaxValue;

    /// <summary>The table that an entry which passed <see cref="TableMask"/> leads to.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    static virtual PhysicalAddress TableAddress(ulong entry) => TSelf.Address(entry, 1);

    /// <summary>
    /// The word of one item of a leaf of 2^<paramref name="sizeLog2"/> bytes; <paramref name="item"/> is where that
    /// item's own part of the page lies.
    /// </summary>
    static abstract ulong Leaf(PhysicalAddress item, DmaAccess access, int level, int sizeLog2);

    /// <summary>
    /// The word that leads from <paramref name="level"/> to a table one level below, restricting nothing.
    /// </summary>
    static abstract ulong Table(PhysicalAddress table, int level);
}
