namespace Sluice.Formats.PageTables;

/// <summary>
/// Reads tables of a format chosen by name: for tools, where a call per table walk costs nothing that matters.
/// </summary>
/// <remarks>Safe from any thread. Tables may be of any origin: damage is a result.</remarks>
public interface IPageTableReader
{
    /// <summary>The format's name on the command line.</summary>
    string Format { get; }

    /// <summary>The tables.</summary>
    PageTableRoot Root { get; }

    /// <summary>
    /// Translates one address. Unlike hardware it takes a table that leads back to one above it for a bad pointer.
    /// </summary>
    Translation Translate<TMemory>(TMemory memory, LogicalAddress address)
        where TMemory : struct, IPhysicalMemory;

    /// <summary>Lists everything that is mapped.</summary>
    PageTableListing List<TMemory>(TMemory memory, ListingLimits limits)
        where TMemory : struct, IPhysicalMemory;
}

/// <summary>
/// What <see cref="PageTableFormats.TryFind"/> needs to know of tables beside their format; formats ignore what they do
/// not have.
/// </summary>
public sealed record PageTableOptions
{
    /// <summary>The top table, or the flat one.</summary>
    public required PhysicalAddress Root { get; init; }

    /// <summary>Levels of tables; null for the format's default.</summary>
    public int? Levels { get; init; }

    /// <summary>Address bits that Arm tables translate.</summary>
    public int? InputBits { get; init; }

    /// <summary>The stage of Arm tables, 1 or 2.</summary>
    public int Stage { get; init; } = 1;

    /// <summary>Entries of a flat table.</summary>
    public ulong? Entries { get; init; }

    /// <summary>The first logical address that a flat table translates.</summary>
    public LogicalAddress Aperture { get; init; }

    /// <summary>The hardware's physical address width; null for all that entries can hold.</summary>
    public int? PhysicalAddressBits { get; init; }

    /// <summary>Whether the device's requests count as privileged.</summary>
    public bool Privileged { get; init; }
}
