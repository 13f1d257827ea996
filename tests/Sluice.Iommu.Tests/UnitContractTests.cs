namespace Sluice.Iommu.Tests;

/// <summary>What a machine may rely on for a unit of any kind, seen through the interface alone.</summary>
public sealed class UnitContractTests
{
    private const ushort Disk = 0x0020;

    // Seen failing: a window as long as its last register; the counters of one port only; Reset without the caches.
    [Fact]
    public void AUnit_CanBePlacedCountedAndReset()
    {
        using Rig rig = new(new() { Name = "the second VT-d", FaultRecords = 256 });
        IRemappingUnit[] units = [rig.Unit];
        IRemappingUnit unit = units[0];
        Assert.Equal("the second VT-d", unit.Name);
        RegisterWindow window = Assert.Single(unit.Windows);
        Assert.Equal((0x2000u, rig.Registers.Read64(8)), (window.Length, window.Read64(8)));

        ulong leaf = rig.Map(rig.Attach(Disk, 1), 3, 0x1000, 0x80_0000);
        rig.Enable();
        TranslationPort other = unit.Connect();
        Assert.True(rig.Translate(Disk, 0x1000, DmaAccess.Read, out _));
        Assert.True(rig.Translate(other, Disk, 0x1000, DmaAccess.Read, out _));
        Assert.False(rig.Translate(other, Disk, 0x2000, DmaAccess.Read, out _));
        UnitCounters before = unit.Counters;
        Assert.Equal((1L, 2L, 1L, 1L), (before.Hits, before.Misses, before.Refused, before.FaultsRecorded));

        unit.Reset();
        Assert.Equal((0UL, 0UL, before), (window.Read64(0x20), window.Read64(0x228), unit.Counters));
        Assert.Equal(0x1000UL, rig.Physical(Disk, 0x1000));
        rig.Poke(leaf, 0);
        rig.Enable();
        Assert.Null(rig.Physical(Disk, 0x1000));
    }

    // Seen failing: messages without the unit's name.
    [Fact]
    public void AMessage_NamesTheUnit()
    {
        using Rig rig = new(new() { Name = "the second VT-d" });
        rig.Enable();
        using DmaScope scope = rig.Port.Begin();
        var thrown = Assert.Throws<InvalidOperationException>(() => rig.Submit((0x12UL, 0UL)));
        Assert.Contains("the second VT-d", thrown.Message, StringComparison.Ordinal);
    }
}
