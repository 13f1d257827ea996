namespace Sluice.Formats.PageTables;

/// <summary>One set of tables: where the top one lies, how many levels, and what the hardware that walks them supports.</summary>
/// <param name="Table">The top table.</param>
/// <param name="TopLevel">Its level; leaves are level 0, so four levels have top level 3.</param>
/// <param name="PhysicalAddressBits">The hardware's physical address width; address bits above it are reserved.</param>
/// <param name="LeafLevels">The levels that may hold leaves: bit n for level n; 0b111 allows 4 KiB, 2 MiB and 1 GiB.</param>
public readonly record struct PageTableRoot(PhysicalAddress Table, int TopLevel, int PhysicalAddressBits = 52, uint LeafLevels = 0b111);

/// <summary>How a walk ended.</summary>
public enum WalkStatus : byte
{
    /// <summary>At a leaf.</summary>
    Mapped,

    /// <summary>At an entry that grants nothing.</summary>
    NotPresent,

    /// <summary>At an entry with a reserved bit set, or a misaligned large page.</summary>
    ReservedBits,

    /// <summary>At a table that lies where there is no memory.</summary>
    BadPointer,

    /// <summary>Before it began: the address is wider than the tables.</summary>
    OutOfRange,
}

/// <summary>What a walk found. A fault is a result, not an exception.</summary>
/// <param name="Status">How it ended; the rest means something only for <see cref="WalkStatus.Mapped"/>.</param>
/// <param name="Address">The physical byte.</param>
/// <param name="Access">What all levels together grant.</param>
/// <param name="PageSizeLog2">The size of the page it lies in.</param>
public readonly record struct Translation(WalkStatus Status, PhysicalAddress Address, DmaAccess Access, int PageSizeLog2);
