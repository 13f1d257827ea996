using System.Globalization;

namespace Sluice.Cli.Run;

/// <summary>
/// The result of a run for people. Plain words in a pipe; layout only, no colour, so nothing is lost there.
/// </summary>
internal static class RunText
{
    /// <summary>Writes the whole result.</summary>
    public static void Write(TextWriter output, RunDocument run)
    {
        Line(output, "disk", $"{ErrorText.Visible(run.Disk.Path)}, {Plural.Of(run.Disk.Bytes, "byte")}");
        Line(output, "sha-256", run.Disk.Sha256);
        string unit = run.Iommu == "none" ? "no remapping unit" : $"{run.Iommu}, {run.Policy} invalidation";
        string reach = run.Bounce ? ", 32-bit controller, buffers above 4 GiB" : "";
        Line(output, "machine", $"{run.Machine}, {unit}{reach}");
        Line(output, "read in", string.Create(
            CultureInfo.InvariantCulture, $"{run.Seconds:0.000} s, {ByteSize.Format(run.BytesPerSecond)}/s"));
        string storms = run.Dma.SilencedStorms == 0 ? ""
            : $"{Plural.Of(run.Dma.SilencedStorms, "storm")} silenced, ";
        Line(output, "dma", string.Create(
            CultureInfo.InvariantCulture,
            $"{Plural.Of(run.Dma.Requests, "request")}, {Plural.Of(run.Dma.Bytes, "byte")}, "
            + $"{Number(run.Dma.BouncedBytes)} copied, {run.Dma.Blocked} blocked, {run.Dma.Lost} lost, {storms}"
            + $"{Plural.Of(run.Dma.AllocatedBytesPerRequest, "byte")} allocated per request"));
        if (run.Iommu != "none" && run.Iotlb is { Hits: { } hits, Misses: { } misses })
        {
            double all = Math.Max(1, hits + misses);
            Line(output, "iotlb", string.Create(
                CultureInfo.InvariantCulture,
                $"{Plural.Of(hits, "hit")}, {Plural.Of(misses, "miss", "misses")} ({hits / all:0.0 %} hits)"));
        }
        foreach (RogueOutcome rogue in run.Rogue) { Write(output, rogue); }
        if (run.Rogue.Count == 0) { return; }
        int contained = run.Rogue.Count(static outcome => outcome.IsContained);
        output.WriteLine();
        output.WriteLine($"{contained} of {Plural.Of(run.Rogue.Count, "case was", "cases were")} blocked, logged and harmless");
    }

    private static void Write(TextWriter output, RogueOutcome rogue)
    {
        output.WriteLine();
        output.WriteLine(
            $"── {rogue.Case}: {(rogue.Blocked ? "blocked" : "NOT BLOCKED")}, "
            + $"{(rogue.Logged ? "logged" : "NOT LOGGED")}, "
            + $"{(rogue.MemoryUnchanged ? "memory unchanged" : "MEMORY CHANGED")}");
        if (rogue.Reason is { } reason) { output.WriteLine($"  why: {reason}"); }
        if (rogue.Changed is { } change)
        {
            output.WriteLine($"  {Plural.Of(change.Bytes, "byte")} changed from {change.First} to {change.Last}");
            output.WriteLine($"    before {Spaced(change.Before)} …");
            output.WriteLine($"    after  {Spaced(change.After)} …");
        }
        if (rogue.Taken is { } taken) { output.WriteLine($"  the device came away with {Spaced(taken)} …"); }
        if (rogue.ReportText.Length != 0) { output.WriteLine(rogue.ReportText.TrimEnd()); }
    }

    private static string Spaced(string hexadecimal) =>
        string.Join(' ', hexadecimal.Chunk(2).Select(static pair => new string(pair)));

    private static void Line(TextWriter output, string name, string value) => output.WriteLine($"{name,-9} {value}");

    private static string Number(long value) => value.ToString("N0", CultureInfo.InvariantCulture);
}
