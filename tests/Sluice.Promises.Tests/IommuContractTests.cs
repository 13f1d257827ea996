using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Promises.Tests;

/// <summary>What a unit and its operating-system side owe a driver, on a whole machine, rule by rule.</summary>
public sealed class IommuContractTests
{
    private const ulong Page = Arena.PageBytes;

    [Fact]
    public void I01WhatIsNotAllowedIsDeniedLoggedOnceAndChangesNothing()
    {
        FaultLines heard = new();
        using Machine machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 32UL << 20 });
        RogueDevice rogue = machine.Plug(new RogueDevice());
        RogueDevice bystander = machine.Plug(new RogueDevice());
        foreach (PciFunction function in PciBus.Enumerate(machine)) { function.EnableBusMaster(); }
        using RemappingSystem system = RemappingSystem.Start(machine, new(), heard);
        Domain domain = system.CreateDomain(new() { Name = "rogue" });
        Domain other = system.CreateDomain(new() { Name = "bystander" });
        PhysicalAddress[] pages = new PhysicalAddress[5];
        for (int i = 0; i < pages.Length; i++)
        {
            Assert.True(machine.Frames.TryAllocate(FrameKind.Buffer, 12, out pages[i]));
            machine.Memory.TryGetSpan(pages[i], Arena.PageBytes, out Span<byte> bytes);
            bytes.Fill((byte)(0xA0 + i));
        }
        LogicalAddress ro = Map(domain, pages.AsSpan(0, 1), DmaAccess.Read);
        LogicalAddress wo = Map(domain, pages.AsSpan(1, 1), DmaAccess.Write);
        LogicalAddress rw = Map(domain, pages.AsSpan(2, 2), DmaAccess.ReadWrite);
        LogicalAddress theirs = Map(other, pages.AsSpan(4, 1), DmaAccess.ReadWrite);
        system.Attach(domain, rogue.Address);
        system.Attach(other, bystander.Address);
        LogicalAddress nowhere = new(0x1234_5000);
        LogicalAddress beyond = rw + 2 * Page;

        (LogicalAddress At, int Length, bool Write, LogicalAddress Fault)[] cases =
        [
            (nowhere + 0x18, 8, false, nowhere),
            (nowhere + 0x20, 64, true, nowhere),
            (ro + 0xFF8, 8, true, ro),
            (wo, 4096, false, wo),
            // The last page is theirs, what follows is not: the first piece happens, the second does not.
            (beyond - 8, 16, true, beyond),
            (beyond - 16, 4096, false, beyond),
        ];
        foreach ((LogicalAddress at, int length, bool write, LogicalAddress fault) in cases)
        {
            byte[][] before = [.. pages.Select(Snapshot)];
            byte[] bytes = new byte[length];
            bytes.AsSpan().Fill(0x5A);
            DmaStatus status = write ? rogue.Port.Write(at, bytes) : rogue.Port.Read(at, bytes);
            Assert.Equal(DmaStatus.Refused, status);
            Assert.True(machine.RunUntil(() => heard.Count > 0), $"{at} was not logged");
            DmaFault logged = Assert.Single(heard.Take());
            Assert.Equal(
                (rogue.Address, fault, 12, write ? DmaAccess.Write : DmaAccess.Read, FaultCause.AccessDenied,
                    write ? 5 : 6),
                (logged.Device, logged.Address, logged.GranularityLog2, logged.Access, logged.Cause,
                    logged.HardwareReason));
            if (write && fault == beyond) { before[3].AsSpan(4088).Fill(0x5A); }
            for (int i = 0; i < pages.Length; i++) { Assert.Equal(before[i], Snapshot(pages[i])); }
            // Nothing of what lies behind was read: all ones from the refused page on.
            if (!write) { Assert.All(bytes[(fault == beyond ? 16 : 0)..], static b => Assert.Equal(0xFF, b)); }
            Assert.Equal(DmaStatus.Completed, bystander.Port.Write(theirs, [1, 2, 3]));
        }
        Assert.Equal(cases.Length, system.Statistics.Faults);
        Assert.Equal(0, system.Statistics.FaultsLost);

        byte[] Snapshot(PhysicalAddress page)
        {
            byte[] bytes = new byte[Arena.PageBytes];
            machine.Memory.TryRead(page, bytes);
            return bytes;
        }
    }

    // Seen failing: discovery without AliasGroups.Find.
    [Theory]
    [InlineData(BridgeAlias.SecondaryBus)]
    [InlineData(BridgeAlias.Itself)]
    public void I10TwoLegacyFunctionsBehindOneBridgeShareADomain(BridgeAlias alias)
    {
        FaultLines heard = new();
        using Machine machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 32UL << 20 });
        PciBridge bridge = machine.Plug(new PciBridge(2, alias), PciAddress.From(0, 0x1E, 0));
        RogueDevice one = machine.Plug(new RogueDevice(), PciAddress.From(2, 1, 0));
        RogueDevice two = machine.Plug(new RogueDevice(), PciAddress.From(2, 2, 0));
        RogueDevice outside = machine.Plug(new RogueDevice());
        foreach (PciFunction function in PciBus.Enumerate(machine)) { function.EnableBusMaster(); }
        using RemappingSystem system = RemappingSystem.Start(machine, new(), heard);
        Assert.Equal(new AliasGroup(bridge.Address, 2, 2), system.GroupOf(one.Address));
        Assert.Equal(system.GroupOf(one.Address), system.GroupOf(two.Address));
        Assert.Null(system.GroupOf(outside.Address));

        Domain domain = system.CreateDomain(new() { Name = "legacy" });
        Assert.True(machine.Frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress page));
        LogicalAddress at = Map(domain, [page], DmaAccess.ReadWrite);
        Assert.Equal(DmaStatus.Refused, one.Port.Read(at, new byte[8]));
        system.Attach(domain, one.Address);
        Assert.Equal(DmaStatus.Completed, one.Port.Write(at, [1]));
        Assert.Equal(DmaStatus.Completed, two.Port.Write(at, [2]));
        Assert.Equal(DmaStatus.Refused, outside.Port.Write(at, [3]));
        Assert.Same(domain, system.DomainOf(two.Address));
        Assert.Throws<RemappingException>(
            () => system.Attach(system.CreateDomain(new() { Name = "elsewhere" }), two.Address));
        // A stranger's id is of no use behind the bridge, and the bridge's is of none in front of it.
        Assert.Equal(DmaStatus.Completed, two.Port.Write(outside.Address.Requester, at, [4]));
        Assert.True(machine.RunUntil(() => heard.Count >= 2));
        heard.Take();
        Assert.Equal(DmaStatus.Refused, one.Port.Write(at + Page, [5]));
        Assert.True(machine.RunUntil(() => heard.Count > 0));
        Assert.Equal(bridge.Requester, heard.Take()[^1].Device.Requester);
        system.Detach(one.Address);
        Assert.Equal(DmaStatus.Refused, two.Port.Write(at, [6]));
    }

    private static LogicalAddress Map(Domain domain, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access)
    {
        Assert.Equal(MapStatus.Mapped, domain.TryMap(pages, access, new(ulong.MaxValue), out DomainMapping mapping));
        return mapping.First;
    }

    private sealed class FaultLines : IFaultSink
    {
        private readonly List<DmaFault> _faults = [];

        internal int Count
        {
            get
            {
                lock (_faults) { return _faults.Count; }
            }
        }

        internal DmaFault[] Take()
        {
            lock (_faults)
            {
                DmaFault[] taken = [.. _faults];
                _faults.Clear();
                return taken;
            }
        }

        public void OnFault(in DmaFault fault)
        {
            lock (_faults) { _faults.Add(fault); }
        }

        public void OnFaultsLost(ulong atLeast)
        {
        }
    }
}
