namespace Sluice.Machines.Tests;

/// <summary>A bridge to conventional PCI: found by software, and what it does to requester ids.</summary>
public sealed class BridgeTests
{
    private static readonly PciAddress BridgeAt = PciAddress.From(0, 6, 0);

    // Seen failing: DmaPort.Read without OnTheBus: the unit saw the functions' own ids.
    [Theory]
    [InlineData(BridgeAlias.SecondaryBus, "02:00.0")]
    [InlineData(BridgeAlias.Itself, "00:06.0")]
    public void WhateverIsBehindArrivesUnderOneId(BridgeAlias alias, string expected)
    {
        using Machine machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 16 << 20 });
        PciBridge bridge = machine.Plug(new PciBridge(2, alias), BridgeAt);
        RogueDevice one = machine.Plug(new RogueDevice(), PciAddress.From(2, 1, 0));
        RogueDevice two = machine.Plug(new RogueDevice(), PciAddress.From(2, 3, 0));
        foreach (PciFunction function in PciBus.Enumerate(machine)) { function.EnableBusMaster(); }
        Assert.Equal(expected, bridge.Requester.ToString());
        List<RequesterId> seen = [];
        foreach (RogueDevice rogue in (RogueDevice[])[one, two])
        {
            seen.Add(Refused(machine, () => rogue.Port.Read(new(0x1000), new byte[4])));
            seen.Add(Refused(machine, () => rogue.Port.Write(RequesterId.From(0, 3, 0), new(0x1000), new byte[4])));
        }
        Assert.All(seen, id => Assert.Equal(bridge.Requester, id));
    }

    [Fact]
    public void SoftwareFindsTheBridgeAndWhatIsBehindIt()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 16 << 20 });
        machine.Plug(new PciBridge(2), BridgeAt);
        machine.Plug(new PciBridge(5, BridgeAlias.Itself), PciAddress.From(2, 4, 0));
        machine.Plug(new RogueDevice(), PciAddress.From(2, 1, 0));
        RogueDevice deep = machine.Plug(new RogueDevice(), PciAddress.From(5, 0, 0));
        IReadOnlyList<PciFunction> found = PciBus.Enumerate(machine);
        Assert.Equal(
            ["00:00.0", "00:06.0", "02:01.0", "02:04.0", "05:00.0", "00:1f.0"],
            found.Select(static f => f.Address.Requester.ToString()));
        PciFunction function = found.Single(f => f.Address == deep.Address);
        function.MapBar(0).Write64(8, 42);
        Assert.Equal(42UL, deep.ReadBar(0, 8, 8));
        PciFunction outer = found.Single(static f => f.Address == BridgeAt);
        Assert.Equal(0x0604, outer.ClassCode >> 8);
        // The outer bridge covers the inner one's bus.
        machine.Ports.Out32(0xCF8, 0x8000_0000 | ((uint)BridgeAt.Requester.Value << 8) | 0x18);
        Assert.Equal(0x0005_0200u, machine.Ports.In32(0xCFC));
    }

    [Fact]
    public void ABridgeThatMayNotMasterStopsWhatIsBehind()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 16 << 20 });
        machine.Plug(new PciBridge(2), BridgeAt);
        RogueDevice rogue = machine.Plug(new RogueDevice(), PciAddress.From(2, 1, 0));
        IReadOnlyList<PciFunction> found = PciBus.Enumerate(machine);
        found.Single(f => f.Address == rogue.Address).EnableBusMaster();
        Assert.Equal(DmaStatus.Refused, rogue.Port.Read(new(0x1000), new byte[4]));
        Assert.Equal(1, rogue.Port.BusMasterOff);
        found.Single(static f => f.Address == BridgeAt).EnableBusMaster();
        Assert.Equal(DmaStatus.Completed, rogue.Port.Read(new(0x1000), new byte[4]));
    }

    [Fact]
    public void NothingIsPluggedInWhereNoBridgeLeads()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 16 << 20 });
        string line = Assert.Throws<MachineException>(
            () => machine.Plug(new RogueDevice(), PciAddress.From(2, 1, 0))).Message;
        Assert.Contains("no bridge leads to that bus", line, StringComparison.Ordinal);
        machine.Plug(new PciBridge(2), BridgeAt);
        Assert.Throws<MachineException>(() => machine.Plug(new PciBridge(2), PciAddress.From(0, 7, 0)));
        Assert.Throws<MachineException>(() => machine.Plug(new PciBridge(1), PciAddress.From(2, 7, 0)));
    }

    private static RequesterId Refused(Machine machine, Func<DmaStatus> dma)
    {
        // Out of reset the unit passes everything; an empty root table refuses everything.
        if ((machine.Unit!.Registers.Read32(0x1C) & 1u << 31) == 0)
        {
            Assert.True(machine.Frames.TryAllocate(FrameKind.UnitTable, 12, out PhysicalAddress root));
            machine.Unit.Registers.Write64(0x20, root.Value);
            machine.Unit.Registers.Write32(0x18, 1u << 30);
            machine.Unit.Registers.Write32(0x18, 1u << 31);
        }
        Assert.Equal(DmaStatus.Refused, dma());
        ulong capability = machine.Unit.Registers.Read64(8);
        uint first = machine.Unit.Registers.Read32(0x34) >> 8 & 0xFF;
        uint record = ((uint)(capability >> 24 & 0x3FF) + first) * 16;
        ulong high = machine.Unit.Registers.Read64(record + 8);
        Assert.NotEqual(0UL, high & 1UL << 63);
        machine.Unit.Registers.Write32(record + 12, 1u << 31);
        return new((ushort)high);
    }
}
