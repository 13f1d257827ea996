namespace Sluice.Dma;

/// <summary>
/// How memory for copying is set aside, for devices that cannot reach a buffer where nothing remaps, or that are not
/// trusted with the rest of a page. Immutable.
/// </summary>
/// <remarks>
/// A pool serves all devices that reach equally far and is made for the first of them. Pages are 4 KiB; the number of
/// pages is the only limit, on transfers and on everything mapped at once.
/// </remarks>
public sealed record BounceOptions
{
    /// <summary>Pages a pool starts with, at least 1. 2048 are 8 MiB.</summary>
    public int Pages { get; init; } = 2048;

    /// <summary>
    /// Pages a pool grows to when it is short, at least <see cref="Pages"/>; the same number forbids growing. 65536
    /// are 256 MiB. Never more than half of the memory that the devices reach, unless it starts with more.
    /// </summary>
    public int MaximumPages { get; init; } = 65536;

    /// <summary>
    /// Parts of a pool with a lock each, chosen by the processor a request runs on; 0 for one per processor. Rounded
    /// up to a power of two, and no more than there are pages.
    /// </summary>
    public int Areas { get; init; }

    /// <summary>
    /// Copies every transfer, even where the device could reach the buffer: for tests and comparisons.
    /// </summary>
    public bool Always { get; init; }

    internal void Validate()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(Pages, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(MaximumPages, Pages);
        ArgumentOutOfRangeException.ThrowIfNegative(Areas);
    }
}
