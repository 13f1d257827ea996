namespace Sluice.Remapping.Tests;

/// <summary>
/// Logical addresses leave out the platform's interrupt window, and what the unit itself takes for interrupt requests.
/// </summary>
public sealed class InterruptWindowTests
{
    // Seen failing: the platform's window never left out; the window of a PC left out only where the platform has it,
    // and then refused by the unit.
    [Theory]
    [InlineData(0xFEE0_0000UL, 0xFEEF_FFFFUL)]
    [InlineData(0x1000_0000UL, 0x1000_0FFFUL)]
    [InlineData(null, null)]
    public void TryMapRange_InTheWindow_IsRefusedWhereThePlatformHasOne(ulong? first, ulong? last)
    {
        LogicalRange ofTheUnit = new(new(0xFEE0_0000), new(0xFEEF_FFFF));
        LogicalRange? window = first is null ? null : new(new(first.Value), new(last!.Value));
        using TestPlatform platform = new() { InterruptWindow = window, BusWindows = [] };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        PhysicalAddress[] page = platform.Buffers(1);
        foreach (ulong at in (ulong[])[0xFEE0_0000, 0xFEEF_F000, 0x1000_0000])
        {
            LogicalRange bounds = LogicalRange.FromLength(new(at), 0x1000);
            MapStatus expected = ofTheUnit.Overlaps(bounds) || window is { } one && one.Overlaps(bounds)
                ? MapStatus.NoLogicalSpace : MapStatus.Mapped;
            Assert.Equal(expected, domain.TryMapRange(page, DmaAccess.Read, bounds, 12, out _));
        }
    }
}
