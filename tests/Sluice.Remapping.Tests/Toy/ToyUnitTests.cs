using Sluice.Remapping.Vtd;

namespace Sluice.Remapping.Tests.Toy;

/// <summary>A kind of unit that shares nothing with VT-d but the frame.</summary>
public sealed class ToyUnitTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Other = PciAddress.From(0, 5, 0);

    // Seen failing: CreateDomain that reserved the platform's windows alone: addresses outside the aperture were handed
    // out.
    [Theory]
    [InlineData(InvalidationPolicy.Strict)]
    [InlineData(InvalidationPolicy.Deferred)]
    public void Mapping_ThroughAnAperture_IsReachedUntilItIsUnmapped(InvalidationPolicy policy)
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { Policy = policy });
        system.Attach(domain, Device);
        ToyUnit unit = Assert.IsType<ToyUnit>(domain.Units[0]);
        for (int turn = 0; turn < 40; turn++)
        {
            PhysicalAddress[] pages = platform.Buffers(1 + turn % 3);
            DomainMapping mapping = domain.MustMap(pages, DmaAccess.ReadWrite);
            Assert.True(ToyUnit.Aperture.Contains(mapping.Range.First));
            Assert.True(ToyUnit.Aperture.Contains(mapping.Range.Last));
            Assert.Equal(pages[^1] + 5, unit.Reach(Device, mapping.Range.Last - 0xFFF + 5));
            Assert.Null(unit.Reach(Other, mapping.First));
            Assert.NotEqual(UnmapStatus.Quarantined, domain.Unmap(mapping));
            domain.FlushNow();
            Assert.Null(unit.Reach(Device, mapping.Range.Last));
        }
        Assert.True(policy == InvalidationPolicy.Strict
            ? system.Statistics is { PageInvalidations: 40, DomainInvalidations: 0 }
            : system.Statistics is { PageInvalidations: 0, DomainInvalidations: 40 });
        system.Detach(Device);
        Assert.Equal(MapStatus.Mapped, domain.TryMap(platform.Buffers(1), DmaAccess.Read, domain.Last, out var last));
        Assert.Null(unit.Reach(Device, last.First));
    }

    // Seen failing: IsolationOf that said what the frame hopes for, and a domain's end that kept its id.
    [Fact]
    public void Aperture_IsOneDomainForAllDevices()
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Device);
        system.Attach(domain, Other);
        Assert.Equal(Isolation.Aperture, system.IsolationOf(Device));
        Assert.Throws<RemappingException>(() => system.CreateDomain(new()));
        domain.Dispose();
        Assert.Equal(0, platform.TestFrames.Count(FrameKind.UnitTable));
        system.CreateDomain(new());
    }

    // Beside a VT-d unit. Seen failing: Prepare without the look at the shape: a device was let into tables that its
    // unit cannot read; and ids counted over all units: there was a second domain over the one aperture.
    [Fact]
    public void TwoKindsOfUnit_InOneMachine_HaveDomainsOfTheirOwn()
    {
        using TestPlatform platform = new()
        {
            Firmware = new(
                48,
                [
                    new VtdUnitDescription(
                        TestPlatform.UnitRegisters, 0, IncludesAll: false, [new(Device.Requester)]),
                    new ToyDescription(),
                ],
                []),
        };
        using RemappingSystem system = platform.Start();
        Domain vtd = system.CreateDomain(new() { Devices = [Device] });
        Domain toy = system.CreateDomain(new() { Devices = [Other] });
        Assert.Throws<RemappingException>(() => system.CreateDomain(new() { Devices = [Device, Other] }));
        Assert.Throws<RemappingException>(() => system.CreateDomain(new() { Devices = [Other] }));
        Assert.Throws<RemappingException>(() => system.Attach(vtd, Other));
        Assert.Throws<RemappingException>(() => system.Attach(toy, Device));
        system.Attach(vtd, Device);
        system.Attach(toy, Other);
        Assert.Equal(Isolation.PerDevice, system.IsolationOf(Device));
        Assert.Equal(Isolation.Aperture, system.IsolationOf(Other));
        PhysicalAddress page = platform.Buffers(1)[0];
        Assert.Equal(page, platform.Reach(Device, vtd.MustMap([page], DmaAccess.Read).First, DmaAccess.Read));
        Assert.Equal(page, ((ToyUnit)toy.Units[0]).Reach(Other, toy.MustMap([page], DmaAccess.Read).First));
        // Only one of them dies.
        ((ToyUnit)toy.Units[0]).IsDeaf = true;
        Assert.Equal(UnmapStatus.Quarantined, toy.Unmap(toy.MustMap(platform.Buffers(1), DmaAccess.Read)));
        Assert.Equal((false, true, 1), (vtd.IsDead, toy.IsDead, system.Statistics.DeadUnits));
        Assert.NotNull(platform.Reach(Device, vtd.MustMap([page], DmaAccess.Read).First, DmaAccess.Read));
    }

    // Seen failing: the look at the granule left out: 4 KiB pages were written into tables of 16 KiB.
    [Fact]
    public void UnitWhosePagesAreLarger_IsRefusedInOneLine()
    {
        using TestPlatform platform = NewPlatform(granuleLog2: 14);
        using RemappingSystem system = platform.Start();
        RemappingException refused = Assert.Throws<RemappingException>(() => system.CreateDomain(new()));
        Assert.Contains("toy unit maps pages of 2^14 bytes", refused.Message, StringComparison.Ordinal);
    }

    private static TestPlatform NewPlatform(int granuleLog2 = 12) =>
        new() { Firmware = new(48, [new ToyDescription(granuleLog2)], []) };
}
