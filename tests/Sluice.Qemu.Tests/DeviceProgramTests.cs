using System.Diagnostics;
using System.Globalization;
using System.Text;
using Sluice.Qemu.Tests.Devices;

namespace Sluice.Qemu.Tests;

/// <summary>
/// The same random programs on QEMU's edu and NVMe controller and on ours: registers, memory, blocks, completions and
/// interrupt wires. A failure prints the shortest program that shows it; replay one seed with <c>SLUICE_SEED=n</c>, run
/// many with <c>SLUICE_SEED=first SLUICE_PROGRAMS=count</c>.
/// </summary>
public sealed class DeviceProgramTests(ITestOutputHelper output)
{
    private const int MostFailures = 3;

    // Seen failing: a head doorbell that lowers the pin for the admin queue alone; the last block not compared.
    [Fact]
    public void OurDevicesAnswerAsQemusDo()
    {
        _ = Qemu.Require();
        (int seed, int programs) = Seeds.Choose(150);
        Assert.Equal(0, Pin.Run(() => RunAll(seed, programs)));
    }

    private int RunAll(int seed, int programs)
    {
        long started = Stopwatch.GetTimestamp(), steps = 0;
        DevicePair? pair = null;
        int failures = 0;
        for (int i = 0; i < programs && failures < MostFailures; i++)
        {
            IReadOnlyList<DeviceStep> program = DeviceProgram.Create(seed + i);
            steps += program.Count;
            pair ??= new();
            if (pair.Differ(program) is not { } difference) { continue; }
            // What differs may lie in them from now on: on with new ones.
            pair.Dispose();
            pair = null;
            output.WriteLine(Explain(seed + i, program, difference));
            failures++;
        }
        pair?.Dispose();
        double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
        output.WriteLine($"{programs} programs, {steps} steps, {seconds:0.0} s");
        return failures;
    }

    private static string Explain(int seed, IReadOnlyList<DeviceStep> program, string difference)
    {
        List<DeviceStep> best = [.. program];
        string? what = Fresh(best);
        for (int size = best.Count / 2; what is not null && size >= 1; size /= 2)
        {
            for (int at = 0; at + size <= best.Count;)
            {
                List<DeviceStep> shorter = [.. best[..at], .. best[(at + size)..]];
                if (Fresh(shorter) is { } found) { (best, what) = (shorter, found); }
                else { at += size; }
            }
        }
        StringBuilder text = new();
        text.AppendLine(CultureInfo.InvariantCulture, $"seed {seed}: the machines differ");
        foreach (DeviceStep step in best) { text.AppendLine(CultureInfo.InvariantCulture, $"    {step.What}"); }
        what ??= $"{difference}\n  but not on machines just started: what earlier programs left matters";
        return text.AppendLine(what).ToString();
    }

    private static string? Fresh(IReadOnlyList<DeviceStep> program)
    {
        using DevicePair pair = new();
        return pair.Differ(program);
    }
}
