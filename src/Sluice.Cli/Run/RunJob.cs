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
        OpenFiles.RequireRoom();
        using DiskImage disk = DiskImage.At(options.DiskPath);
        RunDocument document = Run(terminal, options, disk);
        if (options.Json) { terminal.Output.WriteLine(JsonSerializer.Serialize(document, RunJson.Default.RunDocument)); }
        else { RunText.Write(terminal.Output, document); }
        if (options is { Iommu: IommuKind.None, Policy: not Remapping.InvalidationPolicy.Strict })
        {
            terminal.Remark(
                $"sluice run: --policy {document.Policy} changes nothing without a remapping unit: not used");
        }
        return document.Rogue.All(static outcome => outcome.IsContained) ? ExitCode.Clean : ExitCode.Findings;
    }

    /// <summary>Runs.</summary>
    /// <returns>What is to be printed.</returns>
    /// <exception cref="CommandException">It could not be done, or the disk was changed meanwhile.</exception>
    internal static RunDocument Run(Terminal terminal, RunOptions options, DiskImage disk)
    {
        try
        {
            using Pc pc = Pc.Boot(options, disk, terminal);
            try { return Run(terminal, pc, options, disk); }
            catch (Exception error) when (pc.WhyStopped is { } why) { throw new IOException(why, error); }
        }
        catch (Exception error) when (error is MachineException or PciException or DmaException
            or Remapping.RemappingException or TimeoutException)
        {
            throw new CommandException(ErrorText.Of(error));
        }
        catch (QemuException error)
        {
            throw new CommandException(disk.Change is { } change ? Stopped(disk, change) : error.Message);
        }
        catch (IOException error)
        {
            // Of what a controller says about its disk, the file is the cause.
            throw new CommandException(Stopped(disk, disk.Change ?? ErrorText.Of(error)));
        }
    }

    private static RunDocument Run(Terminal terminal, Pc pc, RunOptions options, DiskImage disk)
    {
        using Progress progress = new(terminal, disk.Length, enabled: !options.Json);
        DiskReader.Result read = DiskReader.Read(pc, disk.Length, progress.Report);
        progress.Dispose();
        if (disk.Change is { } change) { throw new IOException(change); }
        (DiskCounters before, DiskCounters after) = (read.Before, read.After);
        double seconds = read.Elapsed.TotalSeconds;
        return new()
        {
            Machine = Lower(options.Machine),
            Iommu = Lower(options.Iommu),
            Policy = Lower(options.Policy),
            Disk = new(disk.Name, disk.Length, read.Sha256),
            Dma = new(
                after.Dma.Requests - before.Dma.Requests, after.Dma.Bytes - before.Dma.Bytes,
                after.Dma.Blocked, after.Dma.Lost,
                after.Dma.BouncedBytes - before.Dma.BouncedBytes, read.AllocatedBytesPerRequest,
                after.Dma.SilencedStorms),
            Iotlb = new(after.Hits - before.Hits, after.Misses - before.Misses),
            Seconds = seconds,
            BytesPerSecond = disk.Length / seconds,
            Bounce = options.Bounce,
            Rogue = Misbehave(pc, options),
        };
    }

    private static string Stopped(DiskImage disk, string why) => $"reading {disk.Name} stopped: {why}";

    private static IReadOnlyList<RogueOutcome> Misbehave(Pc pc, RunOptions options)
    {
        if (options.Rogue.Count == 0) { return []; }
        using RogueLab lab = new(pc, options.Policy);
        return lab.Run(options.Rogue);
    }

    private static string Lower<T>(T word)
        where T : struct, Enum => word.ToString().ToLower(CultureInfo.InvariantCulture);
}
