using System.Diagnostics;
using System.Security.Cryptography;
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
    /// <param name="AllocatedBytesPerRequest">Heap bytes of the whole process over the requests of the steady state.</param>
    internal readonly record struct Result(string Sha256, TimeSpan Elapsed, long AllocatedBytesPerRequest);

    /// <summary>Reads the first <paramref name="length"/> bytes of the controller's first namespace.</summary>
    /// <exception cref="NvmeException">The disk cannot be read.</exception>
    public static Result Read(Pc pc, long length, Action<long>? progress)
    {
        byte[] chunk = GC.AllocateUninitializedArray<byte>(ChunkBytes);
        using NvmeStream stream = pc.Nvme.Namespaces[0].OpenStream(new() { Length = length });
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        WarmUp(pc, stream, chunk);

        long requestsBefore = pc.NvmeAdapter.Statistics.Requests;
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
        long requests = Math.Max(1, pc.NvmeAdapter.Statistics.Requests - requestsBefore);
        return new(Convert.ToHexStringLower(hash.GetHashAndReset()), elapsed, allocated / requests);
    }

    // A small disk is read over and over until as much was read as warms a large one.
    private static void WarmUp(Pc pc, NvmeStream stream, byte[] chunk)
    {
        for (long warm = 0; warm < WarmUpBytes;)
        {
            int count = stream.Read(chunk);
            if (count == 0) { stream.Position = 0; }
            warm += Math.Max(count, ChunkBytes / 16);
        }
        stream.Position = 0;
        _ = pc.NvmeAdapter.Statistics;
        _ = GC.GetTotalAllocatedBytes(precise: true);
    }
}
