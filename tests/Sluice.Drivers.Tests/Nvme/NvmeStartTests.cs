using Sluice.Dma;
using Sluice.Drivers.Nvme;
using Sluice.Machines;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>Controllers that say odd things of themselves, and the order of enabling and stopping.</summary>
public sealed class NvmeStartTests : IDisposable
{
    private readonly Machine _machine = Machine.Create(new() { MemoryBytes = 16 << 20, Deterministic = true });
    private readonly DmaSystem _dma;
    private readonly DmaAdapter _adapter;
    private readonly FakeController _device;

    public NvmeStartTests()
    {
        _dma = DmaSystem.Start(_machine, new() { Iommu = DmaIommu.None });
        _adapter = _dma.CreateAdapter(PciAddress.From(0, 4, 0), new(), "nvme");
        _device = new(_machine);
    }

    public void Dispose()
    {
        _adapter.Dispose();
        _dma.Dispose();
        Assert.Empty(_machine.Failures);
        _machine.Dispose();
    }

    // Seen failing: the format after the one in use read.
    [Fact]
    public void TheFakeIsAControllerThatStarts()
    {
        using NvmeController controller = Start();
        NvmeNamespace disk = Assert.Single(controller.Namespaces);
        Assert.Equal((2048UL, 9, 1L << 20), (disk.Blocks, disk.BlockSizeLog2, disk.Length));
    }

    // Seen failing: an OverflowException when somebody asked for the length, and a negative one for 2^54 blocks.
    [Theory]
    [InlineData(1UL << 54, 9)]
    [InlineData(1UL << 55, 9)]
    [InlineData(1UL << 63, 9)]
    [InlineData(ulong.MaxValue, 9)]
    [InlineData(1UL << 51, 12)]
    [InlineData(ulong.MaxValue, 12)]
    public void SizesOverTheEndOfNumbersAreTold(ulong blocks, byte blockSizeLog2)
    {
        (_device.Blocks, _device.BlockSizeLog2) = (blocks, blockSizeLog2);
        NvmeException refused = Assert.Throws<NvmeException>(Start);
        Assert.Equal(NvmeFailure.Unsupported, refused.Failure);
        Assert.Equal(
            $"namespace 1 claims {blocks} blocks of {1 << blockSizeLog2} bytes: 2^63 bytes or more", refused.Message);
    }

    // Seen failing: the largest refused.
    [Theory]
    [InlineData((1UL << 54) - 1, 9)]
    [InlineData((1UL << 51) - 1, 12)]
    [InlineData(0, 9)]
    public void TheLargestAndTheSmallestSizesAreSizes(ulong blocks, byte blockSizeLog2)
    {
        (_device.Blocks, _device.BlockSizeLog2) = (blocks, blockSizeLog2);
        using NvmeController controller = Start();
        Assert.Equal((long)(blocks << blockSizeLog2), Assert.Single(controller.Namespaces).Length);
    }

    // Seen failing: a queue of depth 0 that took no command, for ever.
    [Fact]
    public void QueuesOfOneEntryAreTold()
    {
        _device.Capabilities &= ~0xFFFFUL;
        NvmeException refused = Assert.Throws<NvmeException>(Start);
        Assert.Equal((NvmeFailure.Unsupported, "the controller's queues have one entry: CAP.MQES is 0"),
            (refused.Failure, refused.Message));
    }

    // Seen failing: an ArgumentOutOfRangeException of the register window.
    [Theory]
    [InlineData(9)]
    [InlineData(10)]
    [InlineData(15)]
    public void DoorbellsOutsideTheRegistersAreTold(int stride)
    {
        _device.Capabilities |= (ulong)stride << 32;
        NvmeException refused = Assert.Throws<NvmeException>(Start);
        Assert.Equal(NvmeFailure.Unsupported, refused.Failure);
        Assert.Contains("doorbells", refused.Message, StringComparison.Ordinal);
    }

    // Seen failing: refused for the doorbells of four queue pairs, of which it grants one.
    [Fact]
    public void DoorbellsOfQueuesThatAreNotGrantedNeedNoRoom()
    {
        _device.Capabilities |= 8UL << 32;
        using NvmeController controller = Start(queuePairs: 4);
        Assert.Equal(63, controller.QueueDepth);
    }

    // Seen failing: EN cleared at once, which is undefined while RDY has not followed it.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(50)]
    public void AControllerThatIsStillStartingIsWaitedForBeforeItIsStopped(int statusReads)
    {
        _device.LeaveEnabled(statusReads);
        _device.StatusReadsUntilReady = 3;
        Start().Dispose();
        Assert.All(_device.Configurations, written => Assert.True(written.WasSettled, $"CC = 0x{written.Value:X}"));
    }

    // Seen failing: the whole time that the controller may take to become ready spent on one that said it never will.
    [Fact]
    public void AControllerThatFailedIsStoppedAtOnce()
    {
        _device.LeaveEnabled(int.MaxValue);
        _device.HasFailed = true;
        long start = _machine.Clock.Nanoseconds;
        Assert.Throws<NvmeException>(Start);
        Assert.True(_machine.Clock.Nanoseconds - start < 100_000_000);
        Assert.Equal(0u, _device.Configurations[0].Value & 1);
    }

    private NvmeController Start() => Start(queuePairs: 1);

    private NvmeController Start(int queuePairs) => NvmeController.Start(
        new(_machine, _adapter, _device), new() { AdminTimeout = 50_000_000, QueuePairs = queuePairs });
}
