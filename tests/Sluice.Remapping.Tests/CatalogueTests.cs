using Sluice.Remapping.Units;
using Sluice.Remapping.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>Several kinds of unit, each with firmware tables of its own.</summary>
public sealed class CatalogueTests
{
    private static readonly VtdUnitDescription Unit = new(TestPlatform.UnitRegisters, 0, IncludesAll: true, []);
    private static readonly FirmwareRegion Region = new(new(new(0x1000), new(0x1FFF)), 0, []);
    private static readonly AliasGroup Group = new(PciAddress.From(0, 1, 0), 2, 3);

    // Seen failing: the search ended at the first kind that was found; and groups that both had found were there twice.
    [Fact]
    public void Find_WhereTwoKindsAreDescribed_FindsTheUnitsOfBoth()
    {
        using TestPlatform platform = new();
        FirmwareDescription first = new(48, [Unit], [Region]) { Groups = [Group], Problems = ["one"] };
        FirmwareDescription second = new(46, [Unit with { Segment = 1 }], []) { Groups = [Group], Problems = ["two"] };
        FirmwareDescription both = UnitCatalogue.Find(
            platform, [new Finder(first), new Finder(null, "no third table"), new Finder(second)]);
        Assert.Equal(46, both.HostAddressBits);
        Assert.Equal([Unit, Unit with { Segment = 1 }], both.Units);
        Assert.Equal([Region], both.Regions);
        Assert.Equal([Group], both.Groups);
        Assert.Equal(["one", "two"], both.Problems);
    }

    // Seen failing: only the last kind's line told; and the same line twice.
    [Fact]
    public void Find_WhereNothingIsDescribed_SaysWhyOfEachKindOnce()
    {
        using TestPlatform platform = new();
        RemappingException none = Assert.Throws<RemappingException>(() => UnitCatalogue.Find(
            platform, [new Finder(null, "no tables"), new Finder(null, "no tree"), new Finder(null, "no tables")]));
        Assert.Equal("no tables; no tree", none.Message);
    }

    private sealed class Finder(FirmwareDescription? found, string why = "") : IUnitFinder
    {
        public bool IsDescribed(IPlatform platform) => found is not null;

        public FirmwareDescription? Find(IPlatform platform, out string absence)
        {
            absence = why;
            return found;
        }
    }
}
