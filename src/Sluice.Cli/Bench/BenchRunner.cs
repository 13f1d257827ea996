using System.Diagnostics;

namespace Sluice.Cli.Bench;

/// <summary>
/// Times a case and its baseline in alternating batches, so that what else the machine does hits both alike, and takes
/// medians.
/// </summary>
/// <remarks>
/// Where the frames of the code lie in the lines of the processor's cache is its callers' doing, and makes some rows
/// half as slow again. So batches take turns at the four places there are, and a row is its median at the best of them:
/// what the code costs, and not what thread or command it was called from.
/// </remarks>
internal static class BenchRunner
{
    private const int WarmUpBatches = 12;
    private const int Batches = 60;

    // A frame is aligned to 16 bytes, a line of the cache has 64.
    private const int Places = 4;
    private const int PlaceBytes = 16;
    private const double BatchNanoseconds = 2_000_000;
    private const int MostOperations = 1 << 20;

    /// <summary>Measures one case; takes about a quarter of a second.</summary>
    public static BenchResult Measure(BenchCase work)
    {
        int operations = Math.Clamp((int)(BatchNanoseconds / work.ExpectedNanoseconds), 16, MostOperations);
        long begin = Stopwatch.GetTimestamp();
        for (int i = 0; i < WarmUpBatches || Stopwatch.GetElapsedTime(begin) < work.WarmUp; i++)
        {
            work.Run(operations);
            work.RunBaseline(operations);
        }
        double[] ours = new double[Batches];
        double[] baseline = new double[Batches];
        long allocated = 0;
        // Made once: a delegate is 64 bytes, and a batch may be sixteen operations.
        (Action<int> run, Action<int> runBaseline) = (work.Run, work.RunBaseline);
        for (int i = 0; i < Batches; i++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            ours[i] = Time(run, operations, i % Places);
            allocated += GC.GetTotalAllocatedBytes(precise: true) - before;
            baseline[i] = Time(runBaseline, operations, i % Places);
        }
        double median = BestMedian(ours);
        double baselineMedian = BestMedian(baseline);
        Array.Sort(ours);
        return new(
            work.Name,
            Round(median),
            Round(ours[Batches * 99 / 100]),
            allocated / ((long)Batches * operations),
            new(work.BaselineName, Round(baselineMedian)),
            Round(baselineMedian / median, 3))
        {
            Anchor = work.Anchor,
            Goal = new(work.GoalNanoseconds, work.GoalRatio) { AllocatedBytesPerOp = work.GoalBytes },
            What = work.What,
            CopyOrMap = work.MeasureMore(),
        };
    }

    private static double BestMedian(double[] batches) => Enumerable.Range(0, Places).Min(place =>
    {
        double[] there = [.. batches.Where((_, i) => i % Places == place).Order()];
        return there[there.Length / 2];
    });

    private static double Time(Action<int> run, int operations, int place)
    {
        Span<byte> moved = stackalloc byte[(place + 1) * PlaceBytes];
        moved[0] = 1;
        long start = Stopwatch.GetTimestamp();
        run(operations);
        return Stopwatch.GetElapsedTime(start).TotalNanoseconds / operations;
    }

    private static double Round(double value, int digits = 2) => Math.Round(value, digits);
}
