using System.Diagnostics;
using Sluice.Iommu;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>
/// Our silicon and QEMU's run the same random programs. A failure prints the shortest program that shows it; replay one
/// seed with <c>SLUICE_SEED=n</c>, run many with <c>SLUICE_SEED=first SLUICE_PROGRAMS=count</c>.
/// </summary>
public sealed class DifferentialTests(ITestOutputHelper output)
{
    private const int MostFailures = 5;

    // Seen failing, each within seeds 1 to 300: a page-selective mask one bit short; large pages surviving a page-selective or
    // a domain invalidation; a function mask that hides from the bottom; a root table set without dropping the caches;
    // rights of links not ANDed; faults of another source compressed; a queue that does not wrap.
    [Fact]
    public void OurSiliconAnswersAsQemusDoes()
    {
        _ = Qemu.Require();
        (int seed, int programs) = Seeds.Choose(320);
        Assert.Equal(0, Pin.Run(() => RunAll(seed, programs)));
    }

    [Fact]
    public void EveryBitOfEveryStructureMeansTheSame()
    {
        _ = Qemu.Require();
        List<string> differences = Pin.Run(static () =>
        {
            using QemuTarget theirs = new(Qemu.Require(), processor: Pin.Processor);
            using SluiceTarget ours = new(VtdOptions.Qemu);
            Differ differ = new(ours, theirs);
            List<string> found = [];
            foreach ((string name, IReadOnlyList<Step> program) in SingleBitPrograms.All())
            {
                if (differ.Run(program) is { } difference) { found.Add(
                    $"{name}: at step {difference.Step}, {difference.What}"); }
            }
            return found;
        });
        Assert.True(differences.Count == 0, string.Join('\n', differences));
    }

    private int RunAll(int seed, int programs)
    {
        using QemuTarget theirs = new(Qemu.Require(), processor: Pin.Processor);
        using SluiceTarget ours = new(VtdOptions.Qemu);
        Differ differ = new(ours, theirs);
        long started = Stopwatch.GetTimestamp();
        int failures = 0;
        for (int i = 0; i < programs && failures < MostFailures; i++)
        {
            IReadOnlyList<Step> program = ProgramGenerator.Create(seed + i);
            if (differ.Run(program) is null) { continue; }
            output.WriteLine(differ.Explain(seed + i, program));
            failures++;
        }
        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        output.WriteLine($"{programs} programs, {differ.Steps} steps, {differ.Dmas} DMAs, {seconds:0.0} s");
        return failures;
    }
}
