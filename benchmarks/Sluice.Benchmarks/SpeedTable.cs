using BenchmarkDotNet.Attributes;
using Sluice.Cli.Bench;

namespace Sluice.Benchmarks;

/// <summary>The rows of <c>sluice bench</c> under BenchmarkDotNet: the same work, an independent stopwatch.</summary>
[MemoryDiagnoser]
public class SpeedTable
{
    private const int Operations = 4096;
    private BenchCase _case = null!;

    /// <summary>The row.</summary>
    [ParamsSource(nameof(Rows))]
    public string Row { get; set; } = "";

    /// <summary>Every row there is.</summary>
    public IEnumerable<string> Rows => BenchCatalog.All.Select(static entry => entry.Name);

    /// <summary>Builds the row.</summary>
    [GlobalSetup]
    public void Setup() => _case = BenchCatalog.All.Single(entry => entry.Name == Row).Create();

    /// <summary>Takes it down.</summary>
    [GlobalCleanup]
    public void Cleanup() => _case.Dispose();

    /// <summary>Ours.</summary>
    [Benchmark(OperationsPerInvoke = Operations)]
    public void Ours() => _case.Run(Operations);

    /// <summary>What it is held against.</summary>
    [Benchmark(Baseline = true, OperationsPerInvoke = Operations)]
    public void Baseline() => _case.RunBaseline(Operations);
}
