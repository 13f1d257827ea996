namespace Sluice.Remapping;

/// <summary>Sizes, periods and patience. The defaults suit a machine with a handful of busy devices.</summary>
public sealed record RemappingOptions
{
    /// <summary>The invalidation queue holds 2^n pages of 256 descriptors, 0 to 7.</summary>
    public int QueuePagesLog2 { get; init; }

    /// <summary>
    /// How long a unit may take to answer one command before it is declared dead, in nanoseconds. Counted from when the
    /// register write that gives the command has returned: a unit that is software may do the work inside that write,
    /// for as long as it bounds that itself.
    /// </summary>
    public long WaitNanoseconds { get; init; } = 1_000_000_000;

    /// <summary>
    /// Deferred policy: mappings a domain may hold until they are flushed, 1 to 65,536; and 8,192 pages where they must
    /// be remembered one by one.
    /// </summary>
    public int DeferredMappings { get; init; } = 256;

    /// <summary>
    /// How often pending mappings are flushed and fault storms looked after, in nanoseconds. Each deferred domain and
    /// each unit has a timer of its own for that.
    /// </summary>
    public long PeriodNanoseconds { get; init; } = 10_000_000;

    /// <summary>Faults a device may raise at once before its fault reporting is switched off.</summary>
    public int FaultBurst { get; init; } = 64;

    /// <summary>Faults per second a device may raise for long.</summary>
    public int FaultsPerSecond { get; init; } = 1_000;

    /// <summary>How long the fault reporting of a storming device stays off, in nanoseconds.</summary>
    public long StormNanoseconds { get; init; } = 100_000_000;

    /// <summary>
    /// Storms of one device until it is blocked for good (<see cref="RemappingSystem.Quarantined"/>); 0 for never, the
    /// default: a refused DMA harms nothing, and a driver's mistake should not take its device away unasked.
    /// </summary>
    public int StormsUntilQuarantine { get; init; }

    /// <summary>Turns over the fault records in one interrupt before the rest is left to the timer.</summary>
    public int FaultPasses { get; init; } = 8;

    /// <summary>
    /// Windows of 4 GiB that a domain's slots, for transfers, may spread over, 1 to 65,536: the lowest ones. Ranges
    /// with bounds may use as many again anywhere, so there are up to twice as many; each in use costs up to 256 KiB.
    /// </summary>
    public int MaximumArenas { get; init; } = 64;

    /// <exception cref="ArgumentOutOfRangeException">A value is outside its documented range.</exception>
    internal void Validate()
    {
        InRange(QueuePagesLog2, 0, 7, nameof(QueuePagesLog2));
        InRange(WaitNanoseconds, 1, long.MaxValue / 2, nameof(WaitNanoseconds));
        InRange(DeferredMappings, 1, 65_536, nameof(DeferredMappings));
        InRange(PeriodNanoseconds, 1, long.MaxValue / 2, nameof(PeriodNanoseconds));
        InRange(FaultBurst, 1, 1 << 20, nameof(FaultBurst));
        InRange(FaultsPerSecond, 1, 1 << 20, nameof(FaultsPerSecond));
        InRange(StormNanoseconds, 1, long.MaxValue / 2, nameof(StormNanoseconds));
        InRange(StormsUntilQuarantine, 0, 1 << 20, nameof(StormsUntilQuarantine));
        InRange(FaultPasses, 1, 1 << 16, nameof(FaultPasses));
        InRange(MaximumArenas, 1, 65_536, nameof(MaximumArenas));
    }

    private static void InRange(long value, long first, long last, string name)
    {
        if (value < first || value > last)
        {
            throw new ArgumentOutOfRangeException(name, value, $"{name} must be from {first} to {last}");
        }
    }
}
