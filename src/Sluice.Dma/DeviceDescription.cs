namespace Sluice.Dma;

/// <summary>
/// What a device can do as a bus master, as its driver knows it. Decides how scatter/gather lists are cut.
/// </summary>
/// <remarks>Immutable, hence safe from any thread. Windows calls it DEVICE_DESCRIPTION, Linux spreads it over dma
/// masks.</remarks>
public sealed record DeviceDescription
{
    /// <summary>
    /// Address bits the device drives, 12 to 64. A 32-bit device reaches logical addresses below 4 GiB.
    /// </summary>
    public int AddressBits { get; init; } = 64;

    /// <summary>The longest transfer in bytes, at least 1: a longer one is a programming error.</summary>
    public uint MaximumLength { get; init; } = uint.MaxValue;

    /// <summary>The longest scatter/gather element in bytes, at least 1.</summary>
    public uint MaximumSegment { get; init; } = uint.MaxValue;

    /// <summary>No element crosses a multiple of 2^this; 0 to 63, or 64 for no boundary.</summary>
    public int BoundaryLog2 { get; init; } = 64;

    /// <summary>
    /// Whether the device takes lists of any length. Without it a list is one element, or the request is refused.
    /// </summary>
    public bool ScatterGather { get; init; } = true;

    /// <summary>The last logical address the device can drive.</summary>
    public LogicalAddress LastAddress => new(ulong.MaxValue >> (64 - AddressBits));

    internal void Validate()
    {
        if (AddressBits is < 12 or > 64)
        {
            throw new ArgumentOutOfRangeException(nameof(AddressBits),
                $"a device drives 12 to 64 address bits, not {AddressBits}");
        }
        if (BoundaryLog2 is < 0 or > 64)
        {
            throw new ArgumentOutOfRangeException(nameof(BoundaryLog2),
                $"a boundary is 2^0 to 2^64, not 2^{BoundaryLog2}");
        }
        ArgumentOutOfRangeException.ThrowIfZero(MaximumLength);
        ArgumentOutOfRangeException.ThrowIfZero(MaximumSegment);
    }
}
