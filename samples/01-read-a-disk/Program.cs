// Reads a file through a whole storage stack and prints its SHA-256:
//
//   file → NVMe controller → (logical addresses) → VT-d unit → memory → NVMe driver → this program
//
// dotnet run --project samples/01-read-a-disk -- FILE

using System.Diagnostics;
using System.Security.Cryptography;
using Sluice;
using Sluice.Dma;
using Sluice.Drivers;
using Sluice.Drivers.Nvme;
using Sluice.Machines;
using Sluice.Machines.Nvme;

if (args is not [string path])
{
    Console.Error.WriteLine("usage: read-a-disk FILE");
    return 1;
}
try
{
    return await ReadAsync(path);
}
catch (Exception e) when (e is IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine(e.Message);
    return 1;
}

static async Task<int> ReadAsync(string path)
{
    // The hardware: a PC with a remapping unit, and a controller whose flash is the file.
    FileMedium disk = FileMedium.Open(path, readOnly: true);
    using Machine machine = Machine.Create(new() { Iommu = MachineIommu.Vtd });
    machine.Plug(new NvmeModel(disk));

    // The operating system: find the function, give it addresses, take over remapping. From here on no device reaches
    // any memory.
    PciFunction function = PciBus.Enumerate(machine).Single(f => f.ClassCode == 0x010802);
    RegisterWindow registers = function.MapBar(0);
    using DmaSystem dma = DmaSystem.Start(machine, new() { Iommu = DmaIommu.Vtd });
    using DmaAdapter adapter = dma.CreateAdapter(function.Address, new DeviceDescription(), driver: "nvme");
    function.EnableBusMaster();

    IInterruptLine Connect(int vector, Action handler)
    {
        IInterruptLine line = machine.ConnectInterrupt($"nvme vector {vector}", handler);
        function.EnableMsix(vector, line);
        return line;
    }

    // The driver: it sees an adapter and registers, and could as well run on real hardware.
    using NvmeController controller = await NvmeController.StartAsync(new(machine, adapter, registers, Connect));
    using NvmeStream stream = controller.Namespaces[0].OpenStream(new() { Length = disk.Length });

    var watch = Stopwatch.StartNew();
    byte[] hash = await SHA256.HashDataAsync(stream);
    double seconds = watch.Elapsed.TotalSeconds;

    DmaStatistics statistics = dma.Statistics;
    Console.WriteLine($"{Convert.ToHexStringLower(hash)}  {path}");
    Console.Error.WriteLine(
        $"{controller.ModelNumber}, {statistics.Requests} requests, {statistics.Bytes} bytes by DMA, "
        + $"{stream.Length / seconds / 1e6:F0} MB/s");
    return 0;
}
