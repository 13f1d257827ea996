namespace Sluice.Dma;

/// <summary>
/// Knows what a machine keeps in memory that is no buffer: <c>interrupt table</c>, <c>system-call table</c>. Safe
/// from any thread.
/// </summary>
public interface IPhysicalRegionNames
{
    /// <summary>A name for what lies at <paramref name="address"/>, without article, or null.</summary>
    string? NameOf(PhysicalAddress address);
}
