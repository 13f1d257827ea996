using System.Security.Cryptography;
using Sluice.Dma;
using Sluice.Drivers;
using Sluice.Drivers.Nvme;
using Sluice.Machines;
using Sluice.Machines.Qemu;

namespace Sluice.Qemu.Tests;

/// <summary>
/// Our operating-system side, DMA interface and drivers on QEMU's VT-d, NVMe and edu: the same code as on our machine.
/// </summary>
public sealed class WholeRoadTests : IDisposable
{
    private readonly string _disk = Path.GetTempFileName();
    private readonly byte[] _contents = new byte[4 << 20];

    public WholeRoadTests()
    {
        new Random(7).NextBytes(_contents);
        File.WriteAllBytes(_disk, _contents);
    }

    public void Dispose() => File.Delete(_disk);

    // Seen failing: slots from 5 on not looked at.
    [Fact]
    public void EnumerationFindsWhatQemuHas()
    {
        using var machine = QemuMachine.Start(
            new() { Launcher = Qemu.Require(), MemoryBytes = 64 << 20, Disk = _disk });
        IReadOnlyList<PciFunction> functions = PciBus.Enumerate(machine);
        PciFunction edu = functions.Single(static f => f.Address == PciAddress.From(0, 5, 0));
        Assert.Equal(0x0100_00EDu, edu.MapBar(0).Read32(0));
        Assert.Contains(functions, static f => f.ClassCode == 0x010802);
        Assert.Contains(functions, static f => f.Address == PciAddress.From(0, 0, 0));
    }

    // Seen failing: 64-bit register writes cut to twelve bits.
    [Theory]
    [InlineData(DmaIommu.None)]
    [InlineData(DmaIommu.Vtd)]
    public async Task TheDiskReadsBackEqualThroughQemusController(DmaIommu iommu)
    {
        using var machine = QemuMachine.Start(new()
        {
            Launcher = Qemu.Require(), MemoryBytes = 128 << 20, Disk = _disk,
            Iommu = iommu == DmaIommu.Vtd ? MachineIommu.Vtd : MachineIommu.None,
        });
        PciFunction function = PciBus.Enumerate(machine).Single(static f => f.ClassCode == 0x010802);
        using var dma = DmaSystem.Start(machine, new() { Iommu = iommu });
        using DmaAdapter adapter = dma.CreateAdapter(function.Address, new DeviceDescription(), driver: "nvme");
        function.EnableBusMaster();
        IInterruptLine Connect(int vector, Action handler)
        {
            IInterruptLine line = machine.ConnectInterrupt($"nvme vector {vector}", handler);
            function.EnableMsix(vector, line);
            return line;
        }
        using NvmeController controller = await NvmeController.StartAsync(
            new(machine, adapter, function.MapBar(0), Connect));
        Assert.StartsWith("QEMU NVMe Ctrl", controller.ModelNumber, StringComparison.Ordinal);
        using NvmeStream stream = controller.Namespaces[0].OpenStream(new() { Length = _contents.Length });
        Assert.Equal(SHA256.HashData(_contents), await SHA256.HashDataAsync(stream));
        Assert.Empty(machine.Failures);
        Assert.Equal(0, dma.Statistics.Blocked);
    }
}
