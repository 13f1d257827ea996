using System.Diagnostics;
using System.Security.Cryptography;
using Sluice.Dma;
using Sluice.Drivers.Nvme;

namespace Sluice.Cli.Run;

/// <summary>Reads a whole disk through the stack and says what it cost.</summary>
internal static class DiskReader
{
    private const int ChunkBytes = 256 << 10;

    // Pools grow and methods are compiled during the first requests; steady state begins after them.
    private const long WarmUpBytes = 64L * ChunkBytes;

    /// <summary>What was read, and its price.</summary>
    /// <param name="Sha256">Of the disk's bytes, lower-case hexadecimal.</param>
    /// <param name="Elapsed">Wall time of the reading.</param>
    /// <param name="AllocatedBytesPerRequest">Heap bytes of all threads over the requests of the reading.</param>
    /// <param name="Before">What the DMA had come to before the reading: bringing the controller up, and warming
    /// up.</param>
    /// <param name="After">What it had come to after it.</param>
    internal readonly record struct Result(
        string Sha256, TimeSpan Elapsed, long AllocatedBytesPerRequest, DiskCounters Before, DiskCounters After);

    /// <summary>Reads the first <paramref name="length"/> bytes of the controller's first namespace.</summary>
    /// <exception cref="NvmeException">The disk cannot be read.</exception>
    public static Result Read(Pc pc, long length, Action<long>? progress)
    {
        byte[] chunk = GC.AllocateUninitializedArray<byte>(ChunkBytes);
        using NvmeStream stream = pc.Nvme.Namespaces[0].OpenStream(new() { Length = length });
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        WarmUp(stream, hash, chunk);

        DiskCounters before = DiskCounters.Of(pc);
        long allocatedBefore = GC.GetTotalAllocatedBytes(precise: true);
        long start = Stopwatch.GetTimestamp();
        for (long done = 0; done < length;)
        {
            int count = stream.Read(chunk);
            if (count == 0) { throw new IOException($"the disk ended after {done} of {length} bytes"); }
            hash.AppendData(chunk.AsSpan(0, count));
            done += count;
            progress?.Invoke(done);
        }
        TimeSpan elapsed = Stopwatch.GetElapsedTime(start);
        long allocated = GC.GetTotalAllocatedBytes(precise: true) - allocatedBefore;
        DiskCounters after = DiskCounters.Of(pc);
        long requests = Math.Max(1, after.Dma.Requests - before.Dma.Requests);
        return new(Convert.ToHexStringLower(hash.GetHashAndReset()), elapsed, allocated / requests, before, after);
    }

    // A small disk is read over and over until as much was read as warms a large one.
    private static void WarmUp(NvmeStream stream, IncrementalHash hash, byte[] chunk)
    {
        for (long warm = 0; warm < WarmUpBytes; warm += ChunkBytes)
        {
            int count = stream.Read(chunk);
            hash.AppendData(chunk.AsSpan(0, count));
            if (count > 0 && stream.Position < stream.Length) { continue; }
            stream.Position = 0;
            stream.DropReadAhead();
        }
        _ = hash.GetHashAndReset();
        stream.Position = 0;
        stream.DropReadAhead();
    }
}

/// <summary>The counters of a machine at one moment.</summary>
/// <param name="Dma">Of all its adapters.</param>
/// <param name="Hits">Of the unit's translation cache; 0 without a unit.</param>
/// <param name="Misses">Translations that walked tables; 0 without a unit.</param>
internal readonly record struct DiskCounters(DmaStatistics Dma, long Hits, long Misses)
{
    /// <summary>The counters now.</summary>
    public static DiskCounters Of(Pc pc)
    {
        (long hits, long misses) = pc.Machine.Unit is { Statistics: var unit } ? (unit.Hits, unit.Misses) : (0, 0);
        return new(pc.Dma.Statistics, hits, misses);
    }
}
