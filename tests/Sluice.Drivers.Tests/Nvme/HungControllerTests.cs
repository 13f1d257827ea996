using System.Diagnostics;
using Sluice.Dma;
using Sluice.Machines;
using Sluice.Machines.Nvme;
using Sluice.Remapping;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>
/// What one device, or somebody who listens, does to the others: how long what they put stays within reach.
/// </summary>
public sealed class HungControllerTests
{
    // Seen failing: all timers on one thread: the watchdog waited for the controller's reset as long as that says that
    // it may take, 7.5 s here and up to 127 s; a subscriber of two seconds; each put was within reach as long.
    [Fact]
    public async Task AHungControllerAndASlowSubscriberHoldNoFlushBack()
    {
        using NvmeHost host = new(
            new MemoryMedium(new byte[1 << 20]),
            new() { CommandTimeout = 40_000_000, AdminTimeout = 200_000_000 }, remapped: true,
            dma: new() { Iommu = DmaIommu.Vtd, Policy = InvalidationPolicy.Deferred })
        {
            ExpectsLeaks = true,
        };
        RogueDevice rogue = host.Machine.Plug(new RogueDevice());
        PciBus.Enumerate(host.Machine).Single(f => f.Address == rogue.Address).EnableBusMaster();
        using DmaAdapter adapter = host.Dma.CreateAdapter(rogue.Address, new(), "neighbour");
        using ManualResetEventSlim never = new();
        int listening = 0;
        host.Dma.Reported += _ =>
        {
            Interlocked.Increment(ref listening);
            never.Wait(TimeSpan.FromSeconds(2));
        };
        rogue.Port.Write(new(0x1000), new byte[8]);
        host.Device.Misbehave = static c => c.Queue == 1 ? NvmeMisbehaviour.Die : NvmeMisbehaviour.None;
        using Mdl buffer = host.Buffer(4096);
        Task read = host.Disk.ReadAsync(0, buffer, 0, 4096).AsTask();
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref listening) > 0, 10_000));
        Assert.True(SpinWait.SpinUntil(() => host.Controller.Resets > 0, 10_000));

        using Mdl mdl = host.Buffer(4096);
        Stopwatch watch = Stopwatch.StartNew();
        int rounds = 0;
        while (watch.ElapsedMilliseconds < 2_500)
        {
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice,
                out ScatterGatherLease list));
            LogicalAddress address = list[0].Address;
            Assert.Equal(DmaStatus.Completed, rogue.Port.Write(address, new byte[8]));
            adapter.PutScatterGatherList(list);
            Assert.True(
                SpinWait.SpinUntil(() => rogue.Port.Write(address, new byte[8]) != DmaStatus.Completed, 10_000),
                "in reach for good");
            rounds++;
        }
        Assert.False(read.IsCompleted, "the controller hangs still");
        Assert.InRange(rounds, 10, int.MaxValue);
        // Ten milliseconds, and what a busy machine makes of them.
        Assert.InRange(host.Dma.Remapping!.Statistics.DeferredExposureNanoseconds, 1, 1_000_000_000);
        await Assert.ThrowsAnyAsync<Exception>(() => read.WaitAsync(TimeSpan.FromSeconds(30)));
    }
}
