namespace Sluice.Cli.Bench;

/// <summary>A row that can be measured.</summary>
/// <param name="Name">Its name; the created case has the same.</param>
/// <param name="Create">Builds what it needs; disposed after the measurement.</param>
internal sealed record BenchEntry(string Name, Func<BenchCase> Create);

/// <summary>Every row, in the order of the table.</summary>
internal static class BenchCatalog
{
    /// <summary>The rows.</summary>
    public static IReadOnlyList<BenchEntry> All { get; } = [];
}
