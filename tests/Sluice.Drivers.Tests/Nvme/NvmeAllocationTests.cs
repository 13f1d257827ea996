using Sluice.Dma;
using Sluice.Machines.Nvme;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>Tests that count what the whole process allocates, hence run while no other test does.</summary>
[CollectionDefinition("alone", DisableParallelization = true)]
public sealed class Alone;

[Collection("alone")]
public sealed class NvmeAllocationTests
{
    private const int DiskBytes = 4 << 20;

    // Seen failing: a closure in the interrupt path, 4 bytes per request on average.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SteadyStateAllocatesNothing(bool remapped)
    {
        using NvmeHost host = new(new MemoryMedium(Pattern.Disk(DiskBytes)), remapped: remapped);
        const int Depth = 64, Requests = 20_000;
        Mdl[] buffers = [.. Enumerable.Range(0, Depth).Select(_ => host.Buffer(4096))];
        ValueTask[] reads = new ValueTask[Depth];
        long best = long.MaxValue;
        for (int attempt = 0; attempt < 5 && best != 0; attempt++)
        {
            long before = GC.GetTotalAllocatedBytes(precise: true);
            int done = 0;
            for (int i = 0; i < Depth; i++) { reads[i] = host.Disk.ReadAsync((ulong)i * 8, buffers[i], 0, 4096); }
            while (done < Requests)
            {
                int seen = done;
                host.Controller.Poll();
                for (int i = 0; i < Depth; i++)
                {
                    if (!reads[i].IsCompleted) { continue; }
                    reads[i].GetAwaiter().GetResult();
                    done++;
                    reads[i] = host.Disk.ReadAsync((ulong)(done % 1000) * 8, buffers[i], 0, 4096);
                }
                if (seen == done) { host.Machine.Clock.Relax(); }
            }
            foreach (ValueTask read in reads) { host.Controller.Wait(read); }
            best = Math.Min(best, GC.GetTotalAllocatedBytes(precise: true) - before);
        }
        foreach (Mdl buffer in buffers) { buffer.Dispose(); }
        // The run-time's own background work now and then takes a few objects; one byte per request would be 20,000.
        Assert.True(best < 2_000, $"{best} bytes for {Requests} requests");
    }
}
