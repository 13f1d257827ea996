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

    private const long EnoughRequests = 1000;
    private static readonly TimeSpan LongestRepetition = TimeSpan.FromMilliseconds(500);

    /// <summary>What was read, and its price.</summary>
    /// <param name="Sha256">Of the disk's bytes, lower-case hexadecimal.</param>
    /// <param name="Elapsed">Wall time of the reading.</param>
    /// <param name="AllocatedBytesPerRequest">Heap bytes of all threads per request: the median of as many readings as
    /// make 1000 requests, so of one for a large disk.</param>
    /// <param name="Before">What the DMA had come to before the reading: bringing the controller up, and warming
    /// up.</param>
    /// <param name="After">What it had come to after it.</param>
    internal readonly record struct Result(
        string Sha256, TimeSpan Elapsed, long AllocatedBytesPerRequest, DiskCounters Before, DiskCounters After);

    /// <summary>Reads the first <paramref name="length"/> bytes of the controller's first namespace.</summary>
    /// <exception cref="NvmeException">The disk cannot be read.</exception>
    /// <exception cref="IOException">It is shorter.</exception>
    public static Result Read(Pc pc, long length, Action<long>? progress)
    {
        NvmeNamespace disk = pc.Nvme.Namespaces is [var first, ..] ? first : throw new IOException("there is no disk");
        if (disk.Length < length) { throw new IOException($"the disk has {disk.Length} bytes, not {length}"); }
        byte[] chunk = GC.AllocateUninitializedArray<byte>(ChunkBytes);
        using NvmeStream stream = disk.OpenStream(new() { Length = length });
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        WarmUp(stream, hash, chunk);

        Result result = default;
        List<long> allocatedPerRequest = new((int)EnoughRequests);
        long requests = 0;
        long begin = Stopwatch.GetTimestamp();
        do
        {
            // Only the first reading is the answer. A small disk is read again to see what requests allocate in steady
            // state, while the runtime still compiles in the background and now and then makes an object of its own.
            bool isFirst = requests == 0;
            stream.Position = 0;
            stream.DropReadAhead();
            AwaitQuiet(pc);
            DiskCounters before = DiskCounters.Of(pc);
            long allocatedBefore = GC.GetTotalAllocatedBytes(precise: true);
            long start = Stopwatch.GetTimestamp();
            ReadOnce(stream, hash, chunk, length, isFirst ? progress : null);
            TimeSpan elapsed = Stopwatch.GetElapsedTime(start);
            long allocated = GC.GetTotalAllocatedBytes(precise: true) - allocatedBefore;
            DiskCounters after = DiskCounters.Of(pc);
            long inThisReading = Math.Max(1, after.Dma.Requests - before.Dma.Requests);
            requests += inThisReading;
            allocatedPerRequest.Add(allocated / inThisReading);
            string sha256 = Convert.ToHexStringLower(hash.GetHashAndReset());
            if (isFirst) { result = new(sha256, elapsed, 0, before, after); }
        }
        while (requests < EnoughRequests && Stopwatch.GetElapsedTime(begin) < LongestRepetition);
        allocatedPerRequest.Sort();
        return result with { AllocatedBytesPerRequest = allocatedPerRequest[allocatedPerRequest.Count / 2] };
    }

    // What was read ahead and dropped is still on its way, and its put is no part of the reading.
    private static void AwaitQuiet(Pc pc)
    {
        const long Second = 1_000_000_000;
        IPlatformClock clock = pc.Machine.Clock;
        for (var limit = Deadline.In(clock, Second); pc.Nvme.InFlight > 0 && !limit.HasPassed; limit.Relax())
        {
            pc.Nvme.Poll();
        }
    }

    private static void ReadOnce(
        NvmeStream stream, IncrementalHash hash, byte[] chunk, long length, Action<long>? progress)
    {
        for (long done = 0; done < length;)
        {
            int count = stream.Read(chunk);
            if (count == 0) { throw new IOException($"the disk ended after {done} of {length} bytes"); }
            hash.AppendData(chunk.AsSpan(0, count));
            done += count;
            progress?.Invoke(done);
        }
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
/// <param name="Hits">Of the unit's translation cache; 0 without a unit, null where nobody counts.</param>
/// <param name="Misses">Translations that walked tables; the same.</param>
internal readonly record struct DiskCounters(DmaStatistics Dma, long? Hits, long? Misses)
{
    /// <summary>The counters now.</summary>
    public static DiskCounters Of(Pc pc)
    {
        (long? hits, long? misses) = pc.Iotlb;
        return new(pc.Dma.Statistics, hits, misses);
    }
}
