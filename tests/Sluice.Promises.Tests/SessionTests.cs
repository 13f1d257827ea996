using System.Runtime.InteropServices;
using Sluice.Dma;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Promises.Tests;

/// <summary>A client vanishes while its device is in the middle of DMA that never ends.</summary>
public sealed class SessionTests
{
    private const int Buffers = 6;

    [Theory]
    [InlineData(InvalidationPolicy.Strict, false)]
    [InlineData(InvalidationPolicy.Strict, true)]
    [InlineData(InvalidationPolicy.Deferred, false)]
    [InlineData(InvalidationPolicy.Deferred, true)]
    public void U03NothingOfAVanishedClientIsWrittenOnceItsPagesAreFree(InvalidationPolicy policy, bool behindBridge)
    {
        using Machine machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 32UL << 20 });
        int bus = behindBridge ? 2 : 0;
        if (behindBridge) { machine.Plug(new PciBridge(2), PciAddress.From(0, 0x1D, 0)); }
        RogueDevice rogue = machine.Plug(new RogueDevice(), PciAddress.From(bus, 4, 0));
        RogueDevice neighbour = machine.Plug(new RogueDevice(), PciAddress.From(bus, 5, 0));
        foreach (PciFunction function in PciBus.Enumerate(machine)) { function.EnableBusMaster(); }
        using DmaSystem system = DmaSystem.Start(machine, new() { Iommu = DmaIommu.Vtd, Policy = policy });
        using DmaAdapter mate = system.CreateAdapter(neighbour.Address, new() { AddressBits = 32 }, "mate");
        using CommonBuffer keepsTablesInUse = mate.AllocateCommonBuffer(4096);
        ulong[] told = new ulong[Buffers];
        bool over = false;
        Thread device = new(() => Write(rogue, told, ref over)) { IsBackground = true };
        device.Start();
        int changed = 0;
        for (int round = 0; round < 20; round++)
        {
            DmaSession session = system.OpenSession("guest", rogue.Address, new() { AddressBits = 32 });
            for (int i = 0; i < Buffers; i++)
            {
                Assert.Equal(DmaSessionStatus.Done, session.TryAllocate(4096, out DmaHandle buffer));
                Assert.Equal(
                    DmaSessionStatus.Done,
                    session.TryMap(buffer, 0, 4096, DmaDirection.FromDevice, out DmaHandle mapping));
                var element = new ScatterGatherElement[1];
                session.TryGetElements(mapping, element, out _);
                Volatile.Write(ref told[i], element[0].Address.Value);
            }
            long before = rogue.Port.Pieces;
            Assert.True(machine.RunUntil(() => rogue.Port.Pieces > before + 20), "the device is idle");
            session.Dispose();
            changed += Changes(machine);
        }
        Volatile.Write(ref over, true);
        Assert.True(device.Join(TimeSpan.FromSeconds(20)));
        Assert.Equal(0, changed);
        Assert.Empty(system.Leaks);
        Assert.Empty(machine.Failures);
    }

    // Whoever gets the pages next finds them as they wrote them.
    private static int Changes(Machine machine)
    {
        PhysicalAddress[] pages = new PhysicalAddress[Buffers + 2];
        for (int i = 0; i < pages.Length; i++)
        {
            Assert.True(machine.Frames.TryAllocate(FrameKind.Buffer, 12, out pages[i]));
            machine.Memory.TryGetSpan(pages[i], Arena.PageBytes, out Span<byte> bytes);
            MemoryMarshal.Cast<byte, ulong>(bytes).Fill(Arena.Canary);
        }
        Thread.SpinWait(2000);
        Thread.Yield();
        int changed = 0;
        foreach (PhysicalAddress page in pages)
        {
            machine.Memory.TryGetSpan(page, Arena.PageBytes, out Span<byte> bytes);
            if (MemoryMarshal.Cast<byte, ulong>(bytes).ContainsAnyExcept(Arena.Canary)) { changed++; }
            machine.Frames.Free(page, 12);
        }
        return changed;
    }

    private static void Write(RogueDevice rogue, ulong[] told, ref bool over)
    {
        byte[] venom = new byte[64];
        MemoryMarshal.Cast<byte, ulong>(venom.AsSpan()).Fill(Arena.Venom);
        while (!Volatile.Read(ref over))
        {
            foreach (ref ulong at in told.AsSpan()) { rogue.Port.Write(new(Volatile.Read(ref at)), venom); }
        }
    }
}
