namespace Sluice.Dma;

/// <summary>How a common buffer is made. Immutable.</summary>
public sealed record CommonBufferOptions
{
    /// <summary>
    /// What the device may do with it. Where no unit enforces rights, a buffer that the adapter allocates takes them as
    /// documentation, and one over an MDL is refused with fewer than both.
    /// </summary>
    public DmaAccess Access { get; init; } = DmaAccess.ReadWrite;

    /// <summary>The lowest logical address it may take; null for any.</summary>
    public LogicalAddress? FirstAddress { get; init; }

    /// <summary>The last logical address it may take, inside what the device drives; null for all of that.</summary>
    public LogicalAddress? LastAddress { get; init; }

    /// <summary>
    /// Its first logical address is a multiple of 2^this: 0 to 63. A page, 12, is always kept; more is for devices
    /// whose rings must not cross a larger boundary.
    /// </summary>
    public int AlignmentLog2 { get; init; }

    /// <summary>
    /// Asks for frames that follow each other, 1 GiB at a time, then 2 MiB, then 4 KiB, as far as the machine has
    /// them and the unit can map them with one entry: fewer cache misses in the unit. Never a reason to fail.
    /// </summary>
    public bool LargePages { get; init; }

    /// <summary>Any number that helps to recognise the buffer in a report.</summary>
    public uint Tag { get; init; }
}
