using Sluice.Dma;
using Sluice.Drivers.Nvme;
using Sluice.Machines;
using Sluice.Machines.Nvme;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>A controller, its unit or its adapter ends in the middle of something.</summary>
public sealed class NvmeEndingTests
{
    private const long Millisecond = 1_000_000;
    private const long Second = 1000 * Millisecond;

    // Another driver's put answers two requests, and their callbacks run later: the first shuts the controller down,
    // the second has a list of three pages and no ring. Seen failing: the answer lost in CallbackFailed, the buffer
    // mapped for good.
    [Fact]
    public void AListThatComesWhenTheRingsAreGivenBackEndsItsRead()
    {
        const int Pages = 4;
        BounceOptions pool = new() { Pages = Pages, MaximumPages = Pages, Always = true };
        using NvmeHost host = new(new MemoryMedium(Pattern.Disk(1 << 20)), stepped: true,
            dma: new() { Iommu = DmaIommu.None, Bounce = pool });
        using DmaAdapter other = host.Dma.CreateAdapter(PciAddress.From(0, 9, 0), new(), "other");
        using Mdl hog = host.Buffer(Pages << 12), buffer = host.Buffer(12 << 10);
        Assert.True(other.TryGetScatterGatherList(
            hog, 0, Pages << 12, DmaDirection.ToDevice, out ScatterGatherLease held));
        host.Adapter.GetScatterGatherList(hog, 0, 4096, DmaDirection.ToDevice, (list, _, _) =>
        {
            host.Controller.Dispose();
            list.Dispose();
        });
        ValueTask read = host.Disk.ReadAsync(0, buffer, 0, 12 << 10);
        other.PutScatterGatherList(held);
        Assert.True(host.Machine.RunUntil(() => read.IsCompleted, 1_000_000));
        NvmeException end = Assert.Throws<NvmeException>(() => host.Controller.Wait(read));
        Assert.Equal(NvmeFailure.ControllerDead, end.Failure);
        Assert.Equal((0, 0), (buffer.MappedTransfers, host.Adapter.Statistics.CallbackFailures));
    }

    // Seen failing: what writing the command threw thrown by the call, its slot lost and, for the next, no answer at
    // all.
    [Fact]
    public void ACommandThatCannotBeWrittenIsAnsweredAndCostsNoSlot()
    {
        NvmeHost host = new(new MemoryMedium(Pattern.Disk(1 << 20)), new() { QueueDepth = 2 }, stepped: true);
        host.Adapter.Dispose();
        for (int i = 0; i < 6; i++)
        {
            ValueTask command = i % 2 == 0 ? host.Disk.DeallocateAsync(0, 8) : host.Disk.FlushAsync();
            Assert.True(command.IsCompleted, $"command {i}");
            Assert.Throws<ObjectDisposedException>(() => host.Controller.Wait(command));
        }
        host.Dma.Dispose();
        host.Machine.Dispose();
    }

    // The unit dies while the watchdog waits for the last answer of a reset, and the news comes inside that very wait.
    // Seen failing: the watchdog's lock taken again by its own thread, and queues that ran again when the reset was
    // over: of a controller that was declared dead, a flush was never answered.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void AUnitThatDiesInAResetEndsTheControllerForGood(int seed)
    {
        NvmeOptions options = new() { CommandTimeout = 40 * Millisecond, AdminTimeout = 20 * Second };
        using NvmeHost host = new(new MemoryMedium(Pattern.Disk(1 << 20)), options, stepped: true, remapped: true,
            dma: new() { Iommu = DmaIommu.Vtd }, seed: seed)
        {
            ExpectsLeaks = true,
        };
        using DmaAdapter other = host.Dma.CreateAdapter(PciAddress.From(0, 9, 0), new(), "other");
        CommonBuffer lethal = other.AllocateCommonBuffer(4096);
        using Mdl buffer = host.Buffer(4096);
        bool armed = false;
        host.Device.Misbehave = command =>
        {
            const byte CreateCompletionQueue = 5;
            armed |= command.Queue == 0 && command.Opcode == CreateCompletionQueue;
            return command.Queue == 1 ? NvmeMisbehaviour.HoldDeaf : NvmeMisbehaviour.None;
        };
        host.Machine.AddAgent("killer", () =>
        {
            if (!armed) { return true; }
            host.StopUnit();
            lethal.Dispose();
            return !host.Machine.RunUntil(() => host.Adapter.DeviceBlocked.IsCancellationRequested);
        });
        ValueTask read = host.Disk.ReadAsync(0, buffer, 0, 4096);
        Assert.True(host.Machine.RunUntil(() => host.Controller.IsDead));
        ValueTask flush = host.Disk.FlushAsync();
        Assert.True(host.Machine.RunUntil(() => read.IsCompleted && flush.IsCompleted, 100_000));
        Assert.Throws<NvmeException>(() => host.Controller.Wait(read));
        NvmeException dead = Assert.Throws<NvmeException>(() => host.Controller.Wait(flush));
        Assert.Equal((NvmeFailure.ControllerDead, 1), (dead.Failure, host.Controller.Resets));
    }

    // Seen failing: polled for the whole time that a command may take, hours here.
    [Fact]
    public void ShuttingDownBehindADeadUnitWaitsForNobody()
    {
        NvmeOptions options = new() { CommandTimeout = 10_000 * Second };
        using NvmeHost host = new(new MemoryMedium(Pattern.Disk(1 << 20)), options, stepped: true, remapped: true,
            dma: new() { Iommu = DmaIommu.Vtd })
        {
            ExpectsLeaks = true,
        };
        using DmaAdapter other = host.Dma.CreateAdapter(PciAddress.From(0, 9, 0), new(), "other");
        CommonBuffer lethal = other.AllocateCommonBuffer(4096);
        Mdl buffer = host.Buffer(4096);
        host.Device.Misbehave = static c => c.Queue == 1 ? NvmeMisbehaviour.Hold : NvmeMisbehaviour.None;
        ValueTask read = host.Disk.ReadAsync(0, buffer, 0, 4096);
        host.Machine.RunUntil(() => false, 2_000);
        host.StopUnit();
        lethal.Dispose();
        long start = host.Machine.Clock.Nanoseconds;
        host.Controller.Dispose();
        Assert.InRange(host.Machine.Clock.Nanoseconds - start, 0, 20 * Second);
        Assert.ThrowsAny<Exception>(() => host.Controller.Wait(read));
    }
}
