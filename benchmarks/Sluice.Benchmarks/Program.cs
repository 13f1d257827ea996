using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Running;
using Sluice.Benchmarks;

// dotnet run -c Release --project benchmarks/Sluice.Benchmarks -- --filter '*'
// In this process: otherwise BenchmarkDotNet builds the whole tree once more, within two minutes and only where it finds the
// project below the current folder, or measures nothing.
string[] words = args.Contains("--inProcess") ? args : [.. args, "--inProcess"];
BenchmarkSwitcher.FromTypes([typeof(SpeedTable)])
    .Run(words, DefaultConfig.Instance.WithOptions(ConfigOptions.DisableOptimizationsValidator));
