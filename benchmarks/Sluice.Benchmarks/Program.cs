using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Running;
using Sluice.Benchmarks;

// dotnet run -c Release --project benchmarks/Sluice.Benchmarks -- --filter '*'
BenchmarkSwitcher.FromTypes([typeof(SpeedTable)])
    .Run(args, DefaultConfig.Instance.WithOptions(ConfigOptions.DisableOptimizationsValidator));
