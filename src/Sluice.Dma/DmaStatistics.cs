namespace Sluice.Dma;

/// <summary>What the DMA of a system or of one adapter came to so far. Counters only grow.</summary>
/// <param name="Requests">Scatter/gather lists handed out.</param>
/// <param name="Bytes">Bytes in them.</param>
/// <param name="Outstanding">Lists handed out and not put yet.</param>
/// <param name="Blocked">DMAs that a unit refused and recorded: one per fault record, exactly. A lower bound for the
/// DMAs themselves: a unit may compress faults, so that one record stands for several of one device, and no software
/// can tell.</param>
/// <param name="Lost">Refused DMAs whose record the unit said that it could not keep: a lower bound, and never more
/// than there were.</param>
/// <param name="BouncedBytes">Bytes of transfers that the policy or the back-end copied, each way they went.</param>
/// <param name="ReportsDropped">Blocked DMAs that were counted but not told of, because their device made too many, or
/// because a subscriber hung when the system ended.</param>
/// <param name="Leaks">Mappings and common buffers that were never given back.</param>
public readonly record struct DmaStatistics(
    long Requests,
    long Bytes,
    long Outstanding,
    long Blocked,
    long Lost,
    long BouncedBytes,
    long ReportsDropped,
    long Leaks)
{
    /// <summary>
    /// Storms whose silence is over: times at which a device's faults were not recorded for a while, because it had
    /// raised too many. What it was refused meanwhile, none to any number, is in no other count; nobody can know how
    /// many. Counted when the silence ends, at the latest when the unit is left.
    /// </summary>
    public long SilencedStorms { get; init; }

    /// <summary>Requests that had to wait for resources and were served.</summary>
    public long Waited { get; init; }

    /// <summary>The longest such wait, in nanoseconds on the platform clock.</summary>
    public long LongestWaitNanoseconds { get; init; }

    /// <summary>Callbacks that had waited and threw: <see cref="DmaAdapter.CallbackFailed"/>.</summary>
    public long CallbackFailures { get; init; }

    /// <summary>
    /// Exceptions that nobody could catch: of subscribers, of other callbacks, and of the library itself where it
    /// judges faults or answers requests that waited (<see cref="DmaSystem.SubscriberFailures"/>).
    /// </summary>
    public long SubscriberFailures { get; init; }

    /// <summary>Rules of the DDI that were broken, as far as verification is on.</summary>
    public long Violations { get; init; }
}
