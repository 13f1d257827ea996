namespace Sluice.Iommu;

/// <summary>How a DMA ended.</summary>
public enum DmaEnd : byte
{
    /// <summary>All bytes were moved.</summary>
    Completed,

    /// <summary>The unit refused what comes after the bytes that were moved.</summary>
    Refused,

    /// <summary>The unit passed it, but there is no memory, or none that can be written.</summary>
    NoMemory,
}

/// <summary>How far a DMA came.</summary>
/// <param name="Moved">Bytes moved, from the first on. No byte after them was touched.</param>
/// <param name="End">Why it went no further.</param>
public readonly record struct DmaProgress(int Moved, DmaEnd End)
{
    /// <summary>Whether all bytes were moved.</summary>
    public bool IsComplete => End == DmaEnd.Completed;
}
