using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>What a back-end is asked for when a common buffer is made.</summary>
/// <param name="Length">Bytes, at least 1.</param>
/// <param name="Access">What the device may do.</param>
/// <param name="Bounds">Where every byte lies on the bus.</param>
/// <param name="AlignmentLog2">The first byte is a multiple of this power of two on the bus.</param>
/// <param name="LargePages">Whether frames are wanted that follow each other.</param>
internal readonly record struct CommonRequest(
    ulong Length, DmaAccess Access, LogicalRange Bounds, int AlignmentLog2, bool LargePages)
{
    /// <summary>Whole pages.</summary>
    internal int Pages => (int)((Length + 4095) >> 12);
}

/// <summary>The memory of a common buffer.</summary>
/// <param name="First">Its logical address, page aligned.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Pages">Its frames, in order.</param>
/// <param name="Footprint">What it takes up on the bus.</param>
/// <param name="Borrowed">Whether the frames are somebody else's.</param>
/// <param name="Range">Remapping: what is mapped.</param>
internal readonly record struct CommonMemory(
    LogicalAddress First, ulong Length, PhysicalAddress[] Pages, Footprint Footprint, bool Borrowed,
    DomainRange Range = default);
