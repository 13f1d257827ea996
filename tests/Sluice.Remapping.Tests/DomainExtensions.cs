namespace Sluice.Remapping.Tests;

internal static class DomainExtensions
{
    /// <summary>A mapping that a test takes for granted, at or below <paramref name="limit"/>.</summary>
    public static DomainMapping MustMap(
        this Domain domain, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access, ulong limit = ulong.MaxValue)
    {
        Assert.Equal(MapStatus.Mapped, domain.TryMap(pages, access, new(limit), out DomainMapping mapping));
        return mapping;
    }
}
