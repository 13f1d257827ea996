using Sluice.Iommu;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>
/// The whole road on a machine: firmware tables, unit, fault interrupt, report; and threads that race.
/// </summary>
public sealed class MachineTests
{
    private static readonly PciAddress Slot = PciAddress.From(0, 4, 0);

    [Fact]
    public void ARogueOnAMachineIsBlockedLoggedAndExplained()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 64 << 20, Iommu = MachineIommu.Vtd,
            Deterministic = true });
        RogueDevice rogue = machine.Plug(new RogueDevice(), Slot);
        using DmaSystem system = DmaSystem.Start(
            machine, new() { Iommu = DmaIommu.Vtd, RegionNames = new KernelNames(machine) });
        PciBus.Enumerate(machine).Single(f => f.Address == Slot).EnableBusMaster();
        using DmaAdapter adapter = system.CreateAdapter(Slot, new(), "rogue");
        List<DmaReport> reports = [];
        system.Reported += reports.Add;
        using Mdl mdl = Mdl.Allocate(machine, 8192);

        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 8192, DmaDirection.FromDevice, out ScatterGatherLease list,
            tag: 3));
        LogicalAddress address = list[0].Address;
        Assert.Equal(DmaStatus.Completed, rogue.Port.Write(address, new byte[] { 1, 2, 3 }));
        Assert.Equal(3, mdl.Peek(2));
        Assert.Equal(DmaStatus.Refused, rogue.Port.Read(address, new byte[4]));
        // The unit has one fault record: who looks too late only learns that something was lost.
        Assert.True(machine.RunUntil(() => reports.Count == 1));
        adapter.PutScatterGatherList(list);
        Assert.Equal(DmaStatus.Refused, rogue.Port.Write(address + 4096, new byte[] { 9 }));
        Assert.True(machine.RunUntil(() => reports.Count == 2));
        Assert.Equal(DmaStatus.Refused, rogue.Port.Write(new(machine.Kernel.InterruptTable.Value), new byte[] { 9 }));
        Assert.True(machine.RunUntil(() => reports.Count == 3));

        Assert.Equal(
            [DmaReportKind.WrongDirection, DmaReportKind.AfterUnmap, DmaReportKind.PhysicalAddress],
            reports.Select(static r => r.Kind));
        Assert.Equal((1L, 3u), (reports[1].Mapping!.Value.Number, reports[1].Mapping!.Value.Tag));
        Assert.Equal("interrupt table", reports[2].Physical!.Value.Name);
        Assert.Empty(machine.Kernel.Check());
        Assert.Equal((3L, 0L), (system.Statistics.Blocked, system.Statistics.Lost));
        Assert.Empty(machine.Failures);
    }

    // Seen failing: the remapping back-end's Unmap skipped.
    [Fact]
    public async Task AfterAPutNoLateWriteEverChangesTheBuffer()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        using DmaAdapter adapter = system.CreateAdapter(Slot, new(), "nvme");
        using Mdl mdl = Mdl.Allocate(platform, 4096);
        ulong target = 0;
        long landed = 0;
        bool stop = false;
        Task device = Task.Factory.StartNew(() =>
        {
            TranslationPort port = platform.Unit.Connect("device");
            byte[] bytes = new byte[64];
            while (!Volatile.Read(ref stop))
            {
                LogicalAddress address = new(Volatile.Read(ref target));
                if (address == default) { continue; }
                bytes.AsSpan().Fill((byte)(landed + 1));
                if (platform.Dma(Slot, address, bytes, DmaAccess.Write, port)) { Volatile.Write(ref landed,
                    landed + 1); }
            }
        }, TaskCreationOptions.LongRunning);
        byte[] before = new byte[64], after = new byte[64];
        for (int i = 0; i < 500; i++)
        {
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice,
                out ScatterGatherLease list));
            Volatile.Write(ref target, list[0].Address.Value);
            long seen = Volatile.Read(ref landed);
            // Mostly in the middle of the device's writes; now and then only after one landed, however busy the
            // machine is.
            int patience = i % 100 == 0 ? 1_000_000 : 100;
            for (int spin = 0; spin < patience && Volatile.Read(ref landed) == seen; spin++) { Thread.Yield(); }
            adapter.PutScatterGatherList(list);
            mdl.CopyTo(0, before);
            Thread.SpinWait(300);
            mdl.CopyTo(0, after);
            Assert.Equal(before, after);
        }
        Volatile.Write(ref stop, true);
        await device;
        Assert.True(landed > 0);
    }

    private sealed class KernelNames(Machine machine) : IPhysicalRegionNames
    {
        public string? NameOf(PhysicalAddress address) =>
            address == machine.Kernel.InterruptTable ? "interrupt table"
            : address == machine.Kernel.SystemCallTable ? "system-call table"
            : machine.Kernel.Code.Contains(address) ? "kernel code"
            : null;
    }
}
