namespace Sluice.Formats.PageTables;

/// <summary>
/// One set of tables: where the top one lies, how many levels, and what the hardware that walks them supports.
/// </summary>
/// <param name="Table">The top table.</param>
/// <param name="TopLevel">Its level; leaves are level 0, so four levels have top level 3.</param>
/// <param name="PhysicalAddressBits">The hardware's physical address width; address bits above it are reserved.</param>
/// <param name="LeafLevels">
/// The levels that may hold leaves: bit n for level n; 0b111 allows 4 KiB, 2 MiB and 1 GiB. Read by the formats whose
/// hardware makes it an option.
/// </param>
public readonly record struct PageTableRoot(PhysicalAddress Table, int TopLevel, int PhysicalAddressBits = 52,
    uint LeafLevels = 0b111)
{
    /// <summary>
    /// Address bits the tables translate; 0 for as many as the levels have. Fewer make the top table shorter, more make
    /// it longer (RISC-V's 16 KiB roots, Arm's concatenated ones). Flat formats use <see cref="Entries"/> instead.
    /// </summary>
    public int InputBits { get; init; }

    /// <summary>Entries of a flat table.</summary>
    public ulong Entries { get; init; }

    /// <summary>The first logical address of a flat table's aperture.</summary>
    public LogicalAddress Base { get; init; }

    /// <summary>
    /// Whether the device's requests count as privileged. Formats with a user bit refuse ordinary requests where it is
    /// clear.
    /// </summary>
    public bool Privileged { get; init; }

    /// <summary>
    /// VT-d: whether leaves may say that accesses snoop (ECAP.SC); without it their bit 11 is reserved.
    /// </summary>
    public bool SnoopControl { get; init; } = true;
}
