namespace Sluice.Formats.PageTables;

/// <summary>
/// A run of mapped addresses, as long as logical and physical addresses go on and the rights stay the same.
/// </summary>
/// <param name="Logical">What the device uses.</param>
/// <param name="Physical">Where its first byte lies.</param>
/// <param name="Access">What the device may do, all levels together.</param>
public readonly record struct MappedRange(LogicalRange Logical, PhysicalAddress Physical, DmaAccess Access);

/// <summary>What is wrong with an entry of a foreign table.</summary>
public enum TableProblem : byte
{
    /// <summary>Reserved bits are set, or a large page lies askew.</summary>
    ReservedBits,

    /// <summary>It leads to a table that lies, in whole or in part, where there is no memory.</summary>
    BadPointer,

    /// <summary>It leads to a table above itself.</summary>
    Loop,

    /// <summary>The listing stopped here because it grew beyond its limits.</summary>
    Truncated,
}

/// <summary>An entry that could not be followed.</summary>
/// <param name="Table">The table it is in.</param>
/// <param name="Index">Its place in the table.</param>
/// <param name="Level">The table's level; 0 holds only leaves.</param>
/// <param name="Problem">What is wrong.</param>
public readonly record struct TableDamage(PhysicalAddress Table, ulong Index, int Level, TableProblem Problem);

/// <summary>How far a listing may go.</summary>
/// <param name="Entries">Entries to read, shared tables counted each time they are reached.</param>
/// <param name="Items">Ranges and damaged entries to keep, each.</param>
public readonly record struct ListingLimits(long Entries, int Items)
{
    /// <summary>Enough for tables of 100,000 frames; about a second.</summary>
    public static ListingLimits Default => new(1L << 28, 1 << 20);
}

/// <summary>What foreign tables map, and what is wrong with them.</summary>
/// <param name="Ranges">By logical address, merged.</param>
/// <param name="Damage">In the order met; empty when the listing is complete.</param>
public sealed record PageTableListing(IReadOnlyList<MappedRange> Ranges, IReadOnlyList<TableDamage> Damage);
