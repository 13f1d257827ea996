namespace Sluice;

/// <summary>What a remapping unit can keep apart.</summary>
public enum Isolation : byte
{
    /// <summary>Nothing: each device reaches all memory that it can address.</summary>
    None,

    /// <summary>
    /// All devices share one window of logical addresses. What lies outside it passes as it is, or is refused, as the
    /// hardware says.
    /// </summary>
    Aperture,

    /// <summary>Each sender has an address space of its own, and reaches nothing else.</summary>
    PerDevice,
}
