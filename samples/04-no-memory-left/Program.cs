// The driver of a paging disk must get on when the machine has no memory left: memory comes back only when its own
// transfers are done. So it sets aside what one transfer needs, while there is plenty.
//   dotnet run -c Release --project samples/04-no-memory-left
using System.Buffers;
using Sluice;
using Sluice.Dma;
using Sluice.Machines;

using Machine machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 64 << 20 });
RogueDevice device = machine.Plug(new RogueDevice());
PciBus.Enumerate(machine).Single(f => f.Address == device.Address).EnableBusMaster();
using DmaSystem dma = DmaSystem.Start(machine, new() { Iommu = DmaIommu.Vtd });
using DmaAdapter adapter = dma.CreateAdapter(device.Address, new(), driver: "paging");
using Mdl pages = Mdl.Allocate(machine, 65_536);
using Mdl large = Mdl.Allocate(machine, 16 << 20);
using DmaReservation reserved = adapter.Reserve(maximumLength: 4096);

// Somebody takes every frame there is.
List<PhysicalAddress> taken = [];
while (machine.Frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress frame)) { taken.Add(frame); }
Console.WriteLine($"{taken.Count} frames taken, none is left");

// What needs new page tables cannot be mapped now …
bool mapped = adapter.TryGetScatterGatherList(large, 0, 16 << 20, DmaDirection.FromDevice, out _);
Console.WriteLine($"an ordinary list of 16 MiB: {(mapped ? "mapped" : "no memory for its page tables")}");

// … and what was reserved goes on: sixteen pages are asked for at once, one is in flight, the others take turns.
async Task PageIn(uint page)
{
    using IMemoryOwner<byte> data = MemoryPool<byte>.Shared.Rent(4096);
    data.Memory.Span[..4096].Fill((byte)page);
    ScatterGatherLease list =
        await reserved.GetScatterGatherListAsync(pages, page << 12, 4096, DmaDirection.FromDevice);
    await Task.Delay(1);                                          // the disk looks for it
    device.Port.Write(list[0].Address, data.Memory.Span[..4096]);
    adapter.PutScatterGatherList(list);
}

Task[] all = [.. Enumerable.Range(0, 16).Select(page => PageIn((uint)page))];
Console.WriteLine($"16 reserved lists asked for, {reserved.Waiting} wait their turn");
await Task.WhenAll(all);

byte[] came = new byte[65_536];
pages.CopyTo(0, came);
bool right = came.Index().All(b => b.Item == b.Index >> 12);
Console.WriteLine($"all are done, every byte is {(right ? "right" : "wrong")}");
return right && !mapped ? 0 : 1;
