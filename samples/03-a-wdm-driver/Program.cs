// A driver as they were written before there were remapping units, on a machine with one and on a machine without: the
// same calls, the same driver. Only the list that it is handed differs.
//   dotnet run -c Release --project samples/03-a-wdm-driver
using Sluice;
using Sluice.Dma;
using Sluice.Dma.Wdm;
using Sluice.Machines;

bool same = true;
foreach (MachineIommu iommu in new[] { MachineIommu.Vtd, MachineIommu.None })
{
    using Machine machine = Machine.Create(new() { Iommu = iommu });
    EduModel model = machine.Plug(new EduModel(new() { DmaMask = ulong.MaxValue, DmaDelayNanoseconds = 0 }));
    PciFunction function = PciBus.Enumerate(machine).Single(f => f.Address == model.Address);
    function.EnableBusMaster();
    using DmaSystem dma = DmaSystem.Start(
        machine, new() { Iommu = iommu == MachineIommu.Vtd ? DmaIommu.Vtd : DmaIommu.None });

    EduDriver driver = new(machine, new(dma), new(function.Address, "edu"), function.MapBar(0));
    same &= driver.CopyThroughTheDevice(iommu);
    driver.Remove();
}
return same ? 0 : 1;

/// <summary>QEMU's educational device: it copies between memory and 4 KiB of its own.</summary>
internal sealed class EduDriver(Machine machine, WdmDma dma, WdmDeviceObject device, RegisterWindow registers)
{
    private const uint Source = 0x80, Destination = 0x88, Count = 0x90, Command = 0x98;
    private const ulong Run = 1, ToMemory = 2, InsideDevice = 0x4_0000;

    // IRP_MN_START_DEVICE: what the device can do; how many pages at once is the system's answer.
    private readonly WdmAdapter _adapter = dma.IoGetDmaAdapter(
        device,
        new() { Version = 3, Master = true, ScatterGather = true, DmaAddressWidth = 64, MaximumLength = 4096 },
        out _) ?? throw new InvalidOperationException("no adapter");

    public bool CopyThroughTheDevice(MachineIommu iommu)
    {
        // Two buffers that begin inside a page and end in the next, which lies anywhere.
        using Mdl sent = Mdl.Allocate(machine, 4096, offset: 1000);
        using Mdl received = Mdl.Allocate(machine, 4096, offset: 2000);
        byte[] message = new byte[4096];
        new Random(1).NextBytes(message);
        sent.CopyFrom(0, message);

        Console.WriteLine($"{iommu}:");
        Transfer(sent, writeToDevice: true);
        Transfer(received, writeToDevice: false);

        byte[] came = new byte[4096];
        received.CopyTo(0, came);
        bool same = came.AsSpan().SequenceEqual(message);
        Console.WriteLine(same ? "  what came back is what was sent" : "  what came back is something else");
        return same;
    }

    public void Remove() => _adapter.PutDmaAdapter();

    // IRP_MJ_READ and IRP_MJ_WRITE: get the list, tell the device, put the list when the device is done.
    private void Transfer(Mdl mdl, bool writeToDevice)
    {
        using (IrqlScheduler.RaiseTo(Irql.Dispatch))
        {
            NtStatus status = _adapter.GetScatterGatherList(
                device, mdl, VirtualAddress.Of(mdl), (uint)mdl.ByteCount, ListReady, context: writeToDevice,
                writeToDevice);
            if (!status.IsSuccess()) { throw new InvalidOperationException($"GetScatterGatherList: {status}"); }
        }
    }

    // DriverListControl, at DISPATCH_LEVEL. A real driver returns here and puts the list in the DPC of its interrupt.
    private void ListReady(WdmDeviceObject of, Irp? irp, ScatterGatherList list, object? context)
    {
        bool writeToDevice = (bool)context!;
        uint done = 0;
        for (int i = 0; i < list.NumberOfElements; i++)
        {
            (LogicalAddress address, uint length) = (list[i].Address, list[i].Length);
            Console.WriteLine($"  {(writeToDevice ? "device reads " : "device writes")} {length,4} bytes at {address}");
            registers.Write64(Source, writeToDevice ? address.Value : InsideDevice + done);
            registers.Write64(Destination, writeToDevice ? InsideDevice + done : address.Value);
            registers.Write64(Count, length);
            registers.Write64(Command, writeToDevice ? Run : Run | ToMemory);
            if (!machine.RunUntil(() => (registers.Read64(Command) & Run) == 0))
            {
                throw new TimeoutException("the device does not end its transfer");
            }
            done += length;
        }
        _adapter.PutScatterGatherList(list, writeToDevice);
    }
}
