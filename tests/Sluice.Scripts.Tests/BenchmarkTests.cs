namespace Sluice.Scripts.Tests;

/// <summary>The rows under BenchmarkDotNet, which <c>./test</c> has built beside everything else.</summary>
public sealed class BenchmarkTests
{
    // Seen failing: BenchmarkDotNet looked below the current folder for the project, to build it once more, and
    // executed 0.
    [Fact]
    public void TheFirstRunMeasures()
    {
        string output = Path.GetRelativePath(CheckoutFolder.At("tests/Sluice.Scripts.Tests"), AppContext.BaseDirectory);
        string program = Path.Combine(Script.Root, "benchmarks/Sluice.Benchmarks", output, "Sluice.Benchmarks");
        Assert.SkipUnless(File.Exists(program), "the benchmarks are not built; ./test builds them");
        using Folder folder = new();
        string said = Script.Run(folder.Path, Script.Quote(program) + " --job dry --filter '*Ours*\"walk*'").Good();
        Assert.Matches("executed benchmarks: [1-9]", said);
        Assert.DoesNotContain("start dotnet", said, StringComparison.Ordinal);
    }
}
