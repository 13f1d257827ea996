using Sluice.Formats.PageTables;

namespace Sluice.Cli.Walk;

/// <summary>One checked <c>sluice walk</c> command line.</summary>
/// <param name="ImagePath">The memory.</param>
/// <param name="Base">The physical address of its first byte.</param>
/// <param name="Format">The table format's name.</param>
/// <param name="Tables">Where the tables lie and what shape they have.</param>
/// <param name="Addresses">What to translate; none to list everything.</param>
/// <param name="Json">One JSON document instead of text.</param>
internal sealed record WalkOptions(
    string ImagePath, PhysicalAddress Base, string Format, PageTableOptions Tables,
    IReadOnlyList<LogicalAddress> Addresses, bool Json);
