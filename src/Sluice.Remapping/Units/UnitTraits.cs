namespace Sluice.Remapping.Units;

/// <summary>What a unit can do, in words that every kind of unit shares. It does not change while the unit runs.</summary>
/// <param name="Format">
/// The page-table format that it walks (<see cref="Formats.PageTables.IPageTableFormat{TSelf}.Name"/>). Units of
/// different formats never share a domain.
/// </param>
/// <param name="GranuleLog2">The size of the smallest page.</param>
/// <param name="PageSizes">The sizes of leaves: bit n for 2^n bytes.</param>
/// <param name="TableWidths">
/// The depths of tables that it walks, as the address bits that they translate: bit n for tables of n + 1 bits.
/// </param>
/// <param name="AddressBits">The widest logical address that it takes, in bits; tables may be wider.</param>
/// <param name="Domains">How many domain ids it tells apart, 0 among them.</param>
internal sealed record UnitTraits(
    string Format, int GranuleLog2, ulong PageSizes, ulong TableWidths, int AddressBits, int Domains)
{
    /// <summary>What it keeps apart.</summary>
    public Isolation Isolation { get; init; } = Isolation.PerDevice;

    /// <summary>
    /// Whether a new mapping must be announced (<see cref="IUnitDriver.Announce"/>): the unit caches what is absent, or
    /// keeps table writes back.
    /// </summary>
    public bool NeedsAnnouncement { get; init; }

    /// <summary>
    /// Logical addresses that never reach its tables, because they mean something else to it (x86: the window of
    /// interrupt messages). Nothing is mapped there.
    /// </summary>
    public IReadOnlyList<LogicalRange> Holes { get; init; } = [];

    /// <summary>The bit of <see cref="TableWidths"/> for tables that translate <paramref name="bits"/>.</summary>
    /// <param name="bits">1 to 64.</param>
    public static ulong Width(int bits) => 1UL << (bits - 1);
}
