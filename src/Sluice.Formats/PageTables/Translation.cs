namespace Sluice.Formats.PageTables;

/// <summary>How a walk ended.</summary>
public enum WalkStatus : byte
{
    /// <summary>At a leaf.</summary>
    Mapped,

    /// <summary>
    /// At an entry that grants nothing, alone or together with the entries above it, or is of no valid type.
    /// </summary>
    NotPresent,

    /// <summary>At an entry with a reserved bit set, or a misaligned large page.</summary>
    ReservedBits,

    /// <summary>At a table that lies where there is no memory.</summary>
    BadPointer,

    /// <summary>Before it began: the address is wider than the tables.</summary>
    OutOfRange,
}

/// <summary>What a walk found. A fault is a result, not an exception.</summary>
/// <param name="Status">How it ended.</param>
/// <param name="Address">The physical byte; zero unless mapped.</param>
/// <param name="Access">
/// What all levels together grant. With <see cref="WalkStatus.ReservedBits"/> and <see cref="WalkStatus.BadPointer"/>
/// what the entries read so far grant, the faulty one included: hardware that checks rights before reserved bits
/// refuses by rights first.
/// </param>
/// <param name="PageSizeLog2">
/// The size of the page it lies in; of a fault, the size one entry of that level spans.
/// </param>
public readonly record struct Translation(WalkStatus Status, PhysicalAddress Address, DmaAccess Access,
    int PageSizeLog2);
