using System.Text.Json.Serialization;

namespace Sluice.Cli.Bench;

/// <summary>What <c>sluice bench --json</c> prints. The names and meanings are a contract: add, never change.</summary>
/// <param name="Machine">What it was measured on.</param>
/// <param name="Results">One entry per case.</param>
internal sealed record BenchDocument(BenchMachine Machine, IReadOnlyList<BenchResult> Results)
{
    /// <summary>The version of this contract.</summary>
    public int Version { get; init; } = 1;
}

/// <summary>What <c>sluice bench --list --json</c> prints.</summary>
/// <param name="Rows">The names of the rows.</param>
internal sealed record BenchListDocument(IReadOnlyList<string> Rows)
{
    /// <summary>The version of this contract.</summary>
    public int Version { get; init; } = 1;
}

/// <summary>The machine of a measurement.</summary>
internal sealed record BenchMachine(string Processor, int Cores, string System, string Runtime);

/// <summary>One measured case.</summary>
/// <param name="Name">Which.</param>
/// <param name="NsPerOp">Median over the batches.</param>
/// <param name="P99">99th percentile over the batches, per operation.</param>
/// <param name="AllocatedBytesPerOp">Heap bytes, all threads.</param>
/// <param name="Baseline">What it is held against, measured in the same run.</param>
/// <param name="Ratio">Speed relative to the baseline: baseline time over ours.</param>
internal sealed record BenchResult(
    string Name, double NsPerOp, double P99, long AllocatedBytesPerOp, BenchBaseline Baseline, double Ratio)
{
    /// <summary>A published figure, for orientation.</summary>
    public BenchAnchor? Anchor { get; init; }

    /// <summary>What the project holds itself to.</summary>
    public BenchGoal? Goal { get; init; }

    /// <summary>Copying held against mapping, by length; only with the row of that name.</summary>
    public BenchCopyOrMap? CopyOrMap { get; init; }

    /// <summary>What one operation is.</summary>
    public string What { get; init; } = "";

    /// <summary>Whether the goal is met in this run.</summary>
    [JsonIgnore]
    public bool MeetsGoal =>
        (Goal?.NsPerOp is not { } most || NsPerOp <= most)
        && (Goal?.Ratio is not { } least || Ratio >= least)
        && (Goal?.AllocatedBytesPerOp is not { } bytes || AllocatedBytesPerOp <= bytes);
}

/// <summary>Up to which length it is cheaper to copy a transfer through mapped pages than to map it.</summary>
/// <param name="Lines">What was measured, by ascending length.</param>
/// <param name="BreakEvenStrictBytes">The longest transfer that is cheaper to copy than to map strictly.</param>
/// <param name="BreakEvenDeferredBytes">The longest that is cheaper to copy than to map with deferred flushes.</param>
internal sealed record BenchCopyOrMap(
    IReadOnlyList<BenchCopyOrMapLine> Lines, uint BreakEvenStrictBytes, uint BreakEvenDeferredBytes);

/// <summary>Get and put of one list of so many bytes, in nanoseconds.</summary>
internal sealed record BenchCopyOrMapLine(uint Bytes, double CopyNs, double MapStrictNs, double MapDeferredNs);

/// <summary>The baseline's median.</summary>
internal sealed record BenchBaseline(string Name, double NsPerOp);

/// <summary>
/// A goal: at most so many nanoseconds, or at least so much of the baseline's speed; and at most so many heap bytes.
/// </summary>
internal sealed record BenchGoal(double? NsPerOp, double? Ratio)
{
    /// <summary>Most heap bytes per operation, where the row allocates at all.</summary>
    public long? AllocatedBytesPerOp { get; init; }
}

/// <summary>The serializer, made at build time.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(BenchDocument))]
[JsonSerializable(typeof(BenchListDocument))]
internal sealed partial class BenchJson : JsonSerializerContext;
