using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>What a system is started over: what the machine has, unless something else is asked for.</summary>
public sealed class StartingTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);

    // Seen failing: a default of "no unit": on a machine with one every DMA passed, and the capabilities said that
    // there was none.
    [Theory]
    [InlineData(MachineIommu.Vtd)]
    [InlineData(MachineIommu.None)]
    public void TheDefaultIsWhatTheFirmwareDescribes(MachineIommu iommu)
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 64 << 20, Iommu = iommu });
        RogueDevice device = new();
        machine.Plug(device);
        Assert.Single(PciBus.Enumerate(machine), f => f.Address == device.Address).EnableBusMaster();
        using DmaSystem system = DmaSystem.Start(machine, new());
        using DmaAdapter adapter = system.CreateAdapter(device.Address, new(), "disk");
        bool remaps = iommu == MachineIommu.Vtd;
        Assert.Equal(remaps, adapter.Capabilities.IsRemapped);
        Assert.Equal(remaps, adapter.Capabilities.ReportsFaults);
        Assert.Equal(remaps, system.Remapping is not null);
        Assert.Equal(!remaps, adapter.Capabilities.Reason.StartsWith("no unit", StringComparison.Ordinal));
        DmaStatus status = device.Port.Write(new(0x20_0000), new byte[8]);
        Assert.Equal(remaps ? DmaStatus.Refused : DmaStatus.Completed, status);
    }

    // Seen failing: no unit: the table that could not be read was none, and the device wrote the interrupt table.
    [Theory]
    [InlineData("DMAR", 4, 0x0020_0000u)] // longer than any table
    [InlineData("DMAR", 4, 0xFFFF_FFFFu)]
    [InlineData("DMAR", 4, 20u)] // shorter than a header
    [InlineData("DMAR", 4, 0x000F_FFFFu)] // past the end of memory, or of what sums to 0
    [InlineData("DMAR", 0, 0x5841_4D44u)] // another name
    [InlineData("XSDT", 0, 0u)]
    [InlineData("XSDT", 4, 0xFFFF_FFFFu)]
    [InlineData("XSDT", 4, 44u)] // one entry left
    [InlineData("XSDT", 60, 0xFFFF_F000u)] // an entry that leads nowhere
    [InlineData("RSDP", 8, 0xFFFF_FFFFu)]
    [InlineData("RSDP", 24, 0u)] // nothing but the RSDT, and there is none
    [InlineData("RSDP", 24, 0xFFFF_F000u)]
    public void DamagedTablesAreNotAMachineWithoutAUnit(string table, ulong offset, uint value)
    {
        using Machine machine = Machine.Create(
            new() { MemoryBytes = 16 << 20, Iommu = MachineIommu.Vtd, Deterministic = true });
        Sluice.Formats.Acpi.AcpiTables tables = Sluice.Formats.Acpi.AcpiTables.Find(machine.Memory);
        Span<byte> xsdt = stackalloc byte[8];
        Assert.True(machine.Memory.TryRead(tables.RootPointer!.Value + 24, xsdt));
        PhysicalAddress at = table switch
        {
            "RSDP" => tables.RootPointer!.Value,
            "XSDT" => new(BitConverter.ToUInt64(xsdt)),
            _ => tables.Find(table)!.Address,
        };
        Assert.True(machine.Memory.TryWrite32(at + offset, value));
        string said = Assert.Throws<RemappingException>(() => DmaSystem.Start(machine, new())).Message;
        Assert.Contains(" damaged", said, StringComparison.Ordinal);
        Assert.Contains("DmaIommu.None", said, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', said);
        using DmaSystem system = DmaSystem.Start(machine, new() { Iommu = DmaIommu.None });
        Assert.Null(system.Remapping);
    }

    // Seen failing: "no unit", on a machine whose unit was left alone because that was asked for.
    [Fact]
    public void WhoAsksForNoUnitHasNoneAndIsToldThatTheMachineHasOne()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 64 << 20, Iommu = MachineIommu.Vtd });
        using DmaSystem system = DmaSystem.Start(machine, new() { Iommu = DmaIommu.None });
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "disk");
        Assert.Null(system.Remapping);
        Assert.StartsWith("the machine's remapping unit is not used", adapter.Capabilities.Reason,
            StringComparison.Ordinal);
    }

    // Seen failing: two systems over one machine: the second took the unit away from the first one's drivers.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AMachineHasOneSystemAtATime(bool remapped)
    {
        using TestPlatform platform = new();
        InvalidationPolicy? policy = remapped ? InvalidationPolicy.Strict : null;
        DmaSystem first = platform.Start(policy);
        DmaAdapter adapter = first.CreateAdapter(Device, new(), "disk");
        using Mdl mdl = Mdl.Allocate(platform, 100);
        int free = platform.TestFrames.Count(FrameKind.Free), timers = platform.TestClock.Timers;
        string said = Assert.Throws<InvalidOperationException>(() => platform.Start(policy)).Message;
        Assert.Contains("dispose it before a second one", said, StringComparison.Ordinal);
        Assert.Equal((free, timers), (platform.TestFrames.Count(FrameKind.Free), platform.TestClock.Timers));
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out ScatterGatherLease list));
        Assert.True(platform.DmaRead(Device, list[0].Address, new byte[100]) || !remapped);
        list.Dispose();
        first.Dispose();
        platform.Start(policy).Dispose();
    }

    // Seen failing: a claim that stayed with a system that never started.
    [Fact]
    public void AStartThatFailsLeavesTheMachineFree()
    {
        using TestPlatform platform = new();
        platform.UnitThrows = true;
        Assert.ThrowsAny<Exception>(() => platform.Start(InvalidationPolicy.Strict));
        Assert.Throws<RemappingException>(() => DmaSystem.Start(platform, new() { Iommu = DmaIommu.Vtd }));
        Assert.Throws<ArgumentOutOfRangeException>(() => DmaSystem.Start(platform, new() { PendingReports = 1 }));
        platform.UnitThrows = false;
        platform.Start(InvalidationPolicy.Strict).Dispose();
    }

    // Seen failing: a subscriber that was dropped without a word.
    [Fact]
    public void WhoListensForBrokenRulesThatNobodyChecksIsTold()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(null, new() { Verification = VerificationMode.Off });
        Assert.Contains("DmaOptions.Verification",
            Assert.Throws<InvalidOperationException>(() => system.Violated += static _ => { }).Message,
            StringComparison.Ordinal);
        system.Violated -= static _ => { };
    }
}
