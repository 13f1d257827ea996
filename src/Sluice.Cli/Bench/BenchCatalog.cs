using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>A row that can be measured.</summary>
/// <param name="Name">Its name; the created case has the same.</param>
/// <param name="Create">Builds what it needs; disposed after the measurement.</param>
internal sealed record BenchEntry(string Name, Func<BenchCase> Create);

/// <summary>Every row, in the order of the table.</summary>
internal static class BenchCatalog
{
    private static readonly InvalidationPolicy[] Policies = [InvalidationPolicy.Strict, InvalidationPolicy.Deferred, InvalidationPolicy.Shadow];
    private static readonly uint[] ListSizes = [4 << 10, 64 << 10, 1 << 20];

    /// <summary>The rows.</summary>
    public static IReadOnlyList<BenchEntry> All { get; } =
    [
        new("translate-hit", static () => new TranslateCase(hits: true)),
        new("translate-miss-4-level", static () => new TranslateCase(hits: false)),
        new("dma-4k", static () => new DmaCase()),
        .. from bytes in ListSizes
           from policy in Policies
           where policy != InvalidationPolicy.Shadow || bytes <= 64 << 10
           select new BenchEntry(ListCase.NameOf(policy, bytes), () => new ListCase(policy, bytes)),
        .. Policies.Select(static policy => new BenchEntry(NvmeCase.NameOf(policy), () => new NvmeCase(policy))),
    ];
}
