namespace Sluice.Remapping;

/// <summary>What a domain is for.</summary>
public sealed record DomainOptions
{
    /// <summary>The name in errors and reports, normally the device's.</summary>
    public string Name { get; init; } = "domain";

    /// <summary>When mappings that were taken back stop being reachable.</summary>
    public InvalidationPolicy Policy { get; init; } = InvalidationPolicy.Strict;

    /// <summary>
    /// Address bits of the narrowest device that will attach, 20 to 64. It decides how many levels the tables get; a
    /// mapping may name a lower limit.
    /// </summary>
    public int AddressBits { get; init; } = 64;

    /// <summary>
    /// The devices that it is made for, as far as they are known. The addresses of their firmware regions, and of those
    /// of every function that shares requester ids with one of them, are kept free from the start: what is mapped
    /// before one of those is attached is never in its way.
    /// <para>The domain gets the tables of the units in front of them, and devices behind units that cannot walk those
    /// are refused later. Without any, it is for the devices that firmware names no unit for.</para>
    /// </summary>
    public IReadOnlyList<PciAddress> Devices { get; init; } = [];
}
