using Sluice.Iommu;
using Sluice.Iommu.Vtd;
using Sluice.Remapping.Units;
using Sluice.Remapping.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>
/// Units of different abilities in one machine: a domain is made for the units in front of its devices, never for the
/// least of all.
/// </summary>
public sealed class UnlikeUnitsTests
{
    private const ulong SmallLeaves = 1UL << 12;
    private const ulong AllLeaves = 1UL << 12 | 1UL << 21 | 1UL << 30;
    private static readonly PciAddress AtWide = PciAddress.From(0, 4, 0);
    private static readonly PciAddress AtNarrow = PciAddress.From(0, 5, 0);
    private static readonly VtdOptions Wide = new() { AddressBits = 57 };
    private static readonly VtdOptions Narrow =
        new() { AddressBits = 39, Leaves2M = false, Leaves1G = false, DomainIdBits = 4 };

    // Seen failing: the shape chosen over all units: both domains got 39 bits and small leaves.
    [Theory]
    [InlineData(false, 57, AllLeaves)]
    [InlineData(true, 39, SmallLeaves)]
    public void Domain_MadeForADevice_HasTheTablesOfItsUnit(bool narrow, int bits, ulong pageSizes)
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = platform.Start();
        PciAddress device = narrow ? AtNarrow : AtWide;
        Domain domain = system.CreateDomain(new() { Devices = [device] });
        Assert.Equal((1UL << bits) - 1, domain.Last.Value);
        Assert.Equal(pageSizes, domain.PageSizes);
        system.Attach(domain, device);
        DomainMapping mapping = domain.MustMap(platform.Buffers(1), DmaAccess.Read);
        Assert.NotNull(Reach(platform, device, mapping.First));
    }

    // Seen failing: FindUnitOf asked for the first device only: the narrow unit was not thought of.
    [Fact]
    public void Domain_MadeForDevicesOfBothUnits_IsWalkedByBoth()
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { Devices = [AtWide, AtNarrow] });
        Assert.Equal(((1UL << 39) - 1, SmallLeaves), (domain.Last.Value, domain.PageSizes));
        system.Attach(domain, AtWide);
        system.Attach(domain, AtNarrow);
        PhysicalAddress page = platform.Buffers(1)[0];
        DomainMapping mapping = domain.MustMap([page], DmaAccess.Read);
        Assert.Equal(page, Reach(platform, AtWide, mapping.First));
        Assert.Equal(page, Reach(platform, AtNarrow, mapping.First));
    }

    // Seen failing: the first unit of the table taken, here the narrow one.
    [Fact]
    public void Domain_MadeForNoDevice_IsForTheUnitThatServesTheRest()
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = platform.Start();
        Assert.Equal((1UL << 57) - 1, system.CreateDomain(new()).Last.Value);
    }

    // Seen failing: Prepare without the look at the shape: the unit was given tables of a depth that it does not know,
    // and refused every DMA as malformed.
    [Fact]
    public void Attach_BehindAUnitThatCannotWalkTheTables_IsRefusedInOneLine()
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = platform.Start();
        Domain wide = system.CreateDomain(new() { Name = "wide", Devices = [AtWide] });
        RemappingException refused = Assert.Throws<RemappingException>(() => system.Attach(wide, AtNarrow));
        Assert.Contains("0000:00:05.0", refused.Message, StringComparison.Ordinal);
        Assert.Contains("wide", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
        Assert.Null(system.DomainOf(AtNarrow));
        Domain narrow = system.CreateDomain(new() { Devices = [AtNarrow] });
        system.Attach(narrow, AtNarrow);
        Assert.Throws<RemappingException>(() => system.Switch(AtNarrow, wide));
        Assert.Same(narrow, system.DomainOf(AtNarrow));
        DomainMapping mapping = narrow.MustMap(platform.Buffers(1), DmaAccess.Read);
        Assert.NotNull(Reach(platform, AtNarrow, mapping.First));
        // The other way round the tables hold nothing that the unit does not know.
        system.Attach(narrow, AtWide);
        Assert.NotNull(Reach(platform, AtWide, mapping.First));
    }

    // Seen failing: ids of a wide domain taken from 1 on: fifteen of them left none for the narrow unit.
    [Fact]
    public void DomainIds_OfTheUnitThatHasMany_LeaveThoseOfTheOneThatHasFew()
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = platform.Start();
        for (int i = 0; i < 20; i++) { Assert.True(system.CreateDomain(new() { Devices = [AtWide] }).Id > 15); }
        for (int i = 0; i < 15; i++)
        {
            Assert.InRange(system.CreateDomain(new() { Devices = [AtNarrow] }).Id, 1, 15);
        }
        RemappingException none = Assert.Throws<RemappingException>(
            () => system.CreateDomain(new() { Devices = [AtNarrow] }));
        Assert.Contains("all 15 domain ids", none.Message, StringComparison.Ordinal);
        Assert.True(system.CreateDomain(new() { Devices = [AtWide] }).Id > 15);
    }

    // Widths as of VT-d, of a 16 KiB DART, and of RISC-V with its second stage.
    // Seen failing: sizes and depths compared, and the format not, in either of the two.
    [Fact]
    public void Shape_OfUnitsWithDifferentTables_IsNone()
    {
        UnitTraits vtd = Traits("vtd-ss", 12, AllLeaves, 39, 48, 57);
        UnitTraits dart = Traits("dart", 14, 1UL << 14 | 1UL << 25, 36, 47);
        UnitTraits stage2 = Traits("riscv", 12, AllLeaves, 41, 50, 59);
        Assert.Null(TableShape.Choose([vtd, dart], 64));
        Assert.Null(TableShape.Choose([vtd, stage2 with { Format = "vtd-ss" }], 64));
        Assert.Null(TableShape.Choose([vtd, vtd with { Format = "amd-v1" }], 64));
        Assert.Null(TableShape.Choose([vtd, vtd with { GranuleLog2 = 14 }], 64));
        TableShape shape = TableShape.Choose([vtd], 64)!.Value;
        Assert.True(shape.IsWalkedBy(vtd));
        Assert.False(shape.IsWalkedBy(vtd with { Format = "amd-v1" }));
        Assert.False(shape.IsWalkedBy(vtd with { GranuleLog2 = 14 }));
        Assert.Equal(new("dart", 14, 36, dart.PageSizes, 32), TableShape.Choose([dart], 32));
        Assert.Equal(new("dart", 14, 47, dart.PageSizes, 37), TableShape.Choose([dart], 37));
    }

    // Seen failing: IsWalkedBy without the unit's own limit: addresses above it would have been handed out.
    [Fact]
    public void Shape_WiderThanAUnitTakesAddresses_IsNotWalkedByIt()
    {
        UnitTraits vtd = Traits("vtd-ss", 12, AllLeaves, 39, 48, 57);
        UnitTraits less = vtd with { AddressBits = 46 };
        TableShape wide = TableShape.Choose([vtd], 48)!.Value;
        Assert.Equal(48, wide.AddressBits);
        Assert.True(wide.IsWalkedBy(vtd));
        Assert.False(wide.IsWalkedBy(less));
        TableShape shared = TableShape.Choose([vtd, less], 64)!.Value;
        Assert.Equal((48, 46), (shared.Width, shared.AddressBits));
        Assert.True(shared.IsWalkedBy(vtd) && shared.IsWalkedBy(less));
        Assert.False(shared.IsWalkedBy(less with { PageSizes = SmallLeaves }));
        Assert.False(shared.IsWalkedBy(less with { TableWidths = UnitTraits.Width(39) }));
    }

    private static UnitTraits Traits(string format, int granuleLog2, ulong pageSizes, params int[] widths) => new(
        format, granuleLog2, pageSizes, widths.Aggregate(0UL, static (all, one) => all | UnitTraits.Width(one)), 64, 256);

    // The narrow unit comes first in the table, and serves one device by name.
    private static TestPlatform NewPlatform() => new(Wide, second: Narrow)
    {
        Firmware = new(
            48,
            [
                new VtdUnitDescription(
                    TestPlatform.SecondRegisters, 0, IncludesAll: false, [new(AtNarrow.Requester)]),
                new VtdUnitDescription(TestPlatform.UnitRegisters, 0, IncludesAll: true, []),
            ],
            []),
    };

    private static PhysicalAddress? Reach(TestPlatform platform, PciAddress device, LogicalAddress address)
    {
        if (device != AtNarrow) { return platform.Reach(device, address, DmaAccess.Read); }
        TranslationPort port = platform.Second.Connect("narrow");
        port.Enter();
        bool reached = platform.Second.TryTranslate(
            port, new(device, address, DmaAccess.Read), out PhysicalRun run);
        port.Exit();
        return reached ? run.First : null;
    }
}
