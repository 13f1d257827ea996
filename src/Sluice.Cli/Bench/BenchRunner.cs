using System.Diagnostics;

namespace Sluice.Cli.Bench;

/// <summary>
/// Times a case and its baseline in alternating batches, so that what else the machine does hits both alike, and takes
/// medians.
/// </summary>
internal static class BenchRunner
{
    private const int WarmUpBatches = 12;
    private const int Batches = 60;
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
            ours[i] = Time(run, operations);
            allocated += GC.GetTotalAllocatedBytes(precise: true) - before;
            baseline[i] = Time(runBaseline, operations);
        }
        Array.Sort(ours);
        Array.Sort(baseline);
        double median = ours[Batches / 2];
        double baselineMedian = baseline[Batches / 2];
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

    private static double Time(Action<int> run, int operations)
    {
        long start = Stopwatch.GetTimestamp();
        run(operations);
        return Stopwatch.GetElapsedTime(start).TotalNanoseconds / operations;
    }

    private static double Round(double value, int digits = 2) => Math.Round(value, digits);
}
