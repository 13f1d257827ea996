namespace Sluice.Remapping;

/// <summary>How much memory a <see cref="ShadowPool"/> may keep mapped, and for which device.</summary>
public sealed record ShadowPoolOptions
{
    /// <summary>The last logical byte the device can put on the bus.</summary>
    public LogicalAddress Limit { get; init; } = new(ulong.MaxValue);

    /// <summary>The largest slot is 2^n pages of 4 KiB, 0 to 10.</summary>
    public int LargestSlotLog2 { get; init; } = 8;

    /// <summary>Pages in all slots together; at least one slot of the largest size must fit.</summary>
    public int MaximumPages { get; init; } = 16_384;

    /// <summary>A class of slots grows by this many pages at a time, at least one slot.</summary>
    public int ChunkPages { get; init; } = 64;
}
