using System.Globalization;
using System.Text.Json;
using Sluice.Dma;
using Sluice.Machines;
using Sluice.Machines.Qemu;

namespace Sluice.Cli.Run;

/// <summary>Does what <c>sluice run</c> promises: read the disk, count the cost, then let things misbehave.</summary>
internal static class RunJob
{
    /// <summary>Runs and prints.</summary>
    /// <returns>The exit status.</returns>
    public static int Execute(Terminal terminal, RunOptions options)
    {
        RunDocument document = Run(terminal, options);
        if (options.Json) { terminal.Output.WriteLine(JsonSerializer.Serialize(document, RunJson.Default.RunDocument)); }
        else { RunText.Write(terminal.Output, document); }
        return document.Rogue.All(static outcome => outcome.IsContained) ? ExitCode.Clean : ExitCode.Findings;
    }

    private static RunDocument Run(Terminal terminal, RunOptions options)
    {
        using DiskImage disk = DiskImage.At(options.DiskPath);
        long length = disk.Length;
        try
        {
            using Pc pc = Pc.Boot(options, disk, terminal);
            using Progress progress = new(terminal, length, enabled: !options.Json);
            DiskReader.Result read = DiskReader.Read(pc, length, progress.Report);
            progress.Dispose();
            (DiskCounters before, DiskCounters after) = (read.Before, read.After);
            double seconds = read.Elapsed.TotalSeconds;
            return new()
            {
                Machine = Lower(options.Machine),
                Iommu = Lower(options.Iommu),
                Policy = Lower(options.Policy),
                Disk = new(disk.Name, length, read.Sha256),
                Dma = new(
                    after.Dma.Requests - before.Dma.Requests, after.Dma.Bytes - before.Dma.Bytes,
                    after.Dma.Blocked, after.Dma.Lost,
                    after.Dma.BouncedBytes - before.Dma.BouncedBytes, read.AllocatedBytesPerRequest),
                Iotlb = new(after.Hits - before.Hits, after.Misses - before.Misses),
                Seconds = seconds,
                BytesPerSecond = length / seconds,
                Bounce = options.Bounce,
                Rogue = Misbehave(pc, options),
            };
        }
        catch (Exception error) when (error is MachineException or DmaException or Remapping.RemappingException
            or TimeoutException)
        {
            throw new CommandException(ErrorText.Of(error));
        }
        catch (QemuException error)
        {
            throw new CommandException(error.Message);
        }
        catch (IOException error)
        {
            throw new CommandException($"reading {disk.Name} stopped: {ErrorText.Of(error)}");
        }
    }

    private static IReadOnlyList<RogueOutcome> Misbehave(Pc pc, RunOptions options)
    {
        if (options.Rogue.Count == 0) { return []; }
        using RogueLab lab = new(pc, options.Policy);
        return lab.Run(options.Rogue);
    }

    private static string Lower<T>(T word)
        where T : struct, Enum => word.ToString().ToLower(CultureInfo.InvariantCulture);
}
