using Sluice.Machines.Nvme;

namespace Sluice.Machines.Tests;

/// <summary>Power states and the other words of configuration space that operating systems write.</summary>
public sealed class PowerTests
{
    private const uint D3Hot = 3;

    // Seen failing: a function that answered and sent in D3hot; and one that forgot itself there.
    [Fact]
    public void AFunctionInD3HotAnswersInConfigurationSpaceAlone()
    {
        using Nvme.NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        PciFunction function = rig.Function;
        Assert.True(function.TryFindCapability(0x01, out int power));
        // Version 1.2, neither D1 nor D2, no events; No_Soft_Reset: the words of QEMU's controller.
        Assert.Equal((0x0003u, 0x0008u), (function.ReadConfig(power + 2, 2), function.ReadConfig(power + 4, 2)));
        Nvme.Ring ring = rig.Enable().CreateQueues(1, 8, 8);
        rig.Device.Config.Write(power + 4, 2, D3Hot);
        Assert.Equal(0x000Bu, function.ReadConfig(power + 4, 2));
        Assert.Equal(uint.MaxValue, rig.Registers.Read32(0x1C));
        rig.Submit(ring, Nvme.NvmeRig.Command(2, 1, rig.Data)); // its doorbell reaches nobody
        rig.Settle();
        Assert.False(rig.TryPeek(ring, out _));
        rig.Device.Config.Write(power + 4, 2, 0);
        Assert.Equal(1u, rig.Status);
        rig.Registers.Write32(0x1000 + 8, ring.Tail);
        Assert.Equal(0, rig.Take(ring).Status);
    }

    // Seen failing: the state taken as written.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void AStateThatIsNotThereChangesNothing(uint state)
    {
        using Nvme.NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        Assert.True(rig.Function.TryFindCapability(0x01, out int power));
        rig.Device.Config.Write(power + 4, 2, state);
        Assert.Equal(0x0008u, rig.Function.ReadConfig(power + 4, 2));
        rig.Device.Config.Write(power + 4, 2, D3Hot);
        rig.Device.Config.Write(power + 4, 2, state);
        Assert.Equal(0x000Bu, rig.Function.ReadConfig(power + 4, 2));
    }

    // Seen failing: a read-only cache line size, which no operating system can set.
    [Fact]
    public void TheCacheLineSizeKeepsWhatIsWritten()
    {
        using Nvme.NvmeRig rig = new(new MemoryMedium(new byte[1 << 20]));
        rig.Device.Config.Write(0x0C, 1, 0x10);
        Assert.Equal(0x10u, rig.Function.ReadConfig(0x0C, 4) & 0xFF);
    }
}
