using System.Globalization;
using System.Text.Json;
using Sluice.Dma;
using Sluice.Machines;

namespace Sluice.Cli.Run;

/// <summary>Does what <c>sluice run</c> promises: read the disk, count the cost, then let things misbehave.</summary>
internal static class RunJob
{
    /// <summary>Runs and prints.</summary>
    /// <returns>The exit status.</returns>
    public static int Execute(RunOptions options)
    {
        RunDocument document = Run(options);
        if (options.Json) { Console.WriteLine(JsonSerializer.Serialize(document, RunJson.Default.RunDocument)); }
        else { RunText.Write(Console.Out, document); }
        return document.Rogue.All(static outcome => outcome.IsContained) ? ExitCode.Clean : ExitCode.Findings;
    }

    private static RunDocument Run(RunOptions options)
    {
        using DiskImage disk = DiskImage.Open(options.DiskPath);
        long length = disk.Medium.Length;
        try
        {
            using Pc pc = Pc.Boot(options, disk.Medium);
            using Progress progress = new(length, enabled: !options.Json);
            DmaStatistics dmaBefore = pc.Dma.Statistics;
            (long hitsBefore, long missesBefore) = Iotlb(pc);
            DiskReader.Result read = DiskReader.Read(pc, length, progress.Report);
            DmaStatistics dma = pc.Dma.Statistics;
            (long hits, long misses) = Iotlb(pc);
            progress.Dispose();
            double seconds = read.Elapsed.TotalSeconds;
            return new()
            {
                Machine = "sim",
                Iommu = Lower(options.Iommu),
                Policy = Lower(options.Policy),
                Disk = new(disk.Path, length, read.Sha256),
                Dma = new(
                    dma.Requests - dmaBefore.Requests, dma.Bytes - dmaBefore.Bytes, dma.Blocked, dma.Lost,
                    dma.BouncedBytes - dmaBefore.BouncedBytes, read.AllocatedBytesPerRequest),
                Iotlb = new(hits - hitsBefore, misses - missesBefore),
                Seconds = seconds,
                BytesPerSecond = length / seconds,
                Rogue = Misbehave(pc, options.Rogue),
            };
        }
        catch (Exception error) when (error is MachineException or DmaException or Remapping.RemappingException)
        {
            throw new CommandException(error.Message);
        }
        catch (IOException error)
        {
            throw new CommandException($"reading {disk.Path} stopped: {error.Message}");
        }
    }

    private static IReadOnlyList<RogueOutcome> Misbehave(Pc pc, IReadOnlyList<RogueCase> cases)
    {
        if (cases.Count == 0) { return []; }
        using RogueLab lab = new(pc);
        return lab.Run(cases);
    }

    private static (long Hits, long Misses) Iotlb(Pc pc) =>
        pc.Machine.Unit is { Statistics: var unit } ? (unit.Hits, unit.Misses) : (0, 0);

    private static string Lower<T>(T word)
        where T : struct, Enum => word.ToString().ToLower(CultureInfo.InvariantCulture);
}
