namespace Sluice.Dma;

/// <summary>One contiguous piece of a transfer, as the device is told of it.</summary>
/// <param name="Address">Its first byte on the bus.</param>
/// <param name="Length">Bytes, at least 1.</param>
public readonly record struct ScatterGatherElement(LogicalAddress Address, uint Length);
