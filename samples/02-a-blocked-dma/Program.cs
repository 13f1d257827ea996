// A device that keeps writing after its driver took the buffer back, and the report that says so.
//   dotnet run -c Release --project samples/02-a-blocked-dma
using Sluice;
using Sluice.Dma;
using Sluice.Machines;

using Machine machine = Machine.Create(new() { Iommu = MachineIommu.Vtd });
RogueDevice device = machine.Plug(new RogueDevice());             // puts on the bus whatever it is told to
PciBus.Enumerate(machine).Single(f => f.Address == device.Address).EnableBusMaster();
using DmaSystem dma = DmaSystem.Start(machine, new() { Iommu = DmaIommu.Vtd });
dma.Reported += Console.WriteLine;
using DmaAdapter adapter = dma.CreateAdapter(device.Address, new(), driver: "demo");
using Mdl buffer = Mdl.Allocate(machine, 8192);                   // two pages, wherever they lie
if (!adapter.TryGetScatterGatherList(buffer, 0, 8192, DmaDirection.FromDevice, out ScatterGatherLease list, tag: 17))
{
    return;                                                       // no map registers or no memory now
}
LogicalAddress address = list[0].Address;                         // one element: contiguous to the device
adapter.PutScatterGatherList(list);                               // from here on, out of the device's reach
device.Port.Write(address, new byte[4096]);                       // … which does not stop it from trying

machine.RunUntil(() => dma.DeliverReports() > 0);
