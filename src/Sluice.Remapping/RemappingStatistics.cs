using Sluice.Remapping.Units;

namespace Sluice.Remapping;

/// <summary>
/// What the operating-system side did since it started. A snapshot: counters of different units are read one after
/// another.
/// </summary>
public readonly record struct RemappingStatistics
{
    /// <summary>All zero.</summary>
    public RemappingStatistics() => DeferredExposures = [];

    /// <summary>Mappings made.</summary>
    public long Maps { get; init; }

    /// <summary>Mappings taken back.</summary>
    public long Unmaps { get; init; }

    /// <summary>IOTLB invalidations of a run of pages.</summary>
    public long PageInvalidations { get; init; }

    /// <summary>IOTLB invalidations of a domain.</summary>
    public long DomainInvalidations { get; init; }

    /// <summary>Invalidations of everything.</summary>
    public long GlobalInvalidations { get; init; }

    /// <summary>Invalidations of what a unit knows of one device.</summary>
    public long ContextInvalidations { get; init; }

    /// <summary>Times somebody waited for a unit to confirm.</summary>
    public long Waits { get; init; }

    /// <summary>Descriptors a unit refused; each was replaced by one that covers more.</summary>
    public long QueueErrors { get; init; }

    /// <summary>Faults read from the records.</summary>
    public long Faults { get; init; }

    /// <summary>
    /// A lower bound for faults whose records the hardware could not keep, as it said itself: what a storm hides is in
    /// <see cref="SilencedStorms"/>.
    /// </summary>
    public long FaultsLost { get; init; }

    /// <summary>Times a device's fault reporting was switched off because it raised too many.</summary>
    public long Storms { get; init; }

    /// <summary>
    /// Storms whose silence is over: what the device was refused meanwhile, none to any number, left no record.
    /// </summary>
    public long SilencedStorms { get; init; }

    /// <summary>Deferred policy: flushes.</summary>
    public long DeferredFlushes { get; init; }

    /// <summary>
    /// Deferred policy: the longest time from an unmap to its flush, in nanoseconds, at most an hour: what a clock that
    /// jumped says is not in it (<see cref="DeferredExposuresUnmeasured"/>). Of what no unit confirmed the exposure has
    /// no end: it is quarantined, and not in here.
    /// </summary>
    public long DeferredExposureNanoseconds { get; init; }

    /// <summary>
    /// Deferred policy: how often an exposure was below 2^n microseconds and not below half of that, by n. Up to eight
    /// that were unmapped one after the other count as long as the first of them: one reading of the clock serves all.
    /// </summary>
    public IReadOnlyList<long> DeferredExposures { get; init; }

    /// <summary>
    /// Deferred policy: exposures in neither of the two above, because between unmap and flush the clock went back or
    /// jumped by more than an hour. A shorter jump cannot be told from a long exposure.
    /// </summary>
    public long DeferredExposuresUnmeasured { get; init; }

    /// <summary>
    /// Logical ranges that will never be handed out again: no unit confirmed that they are unreachable, or only a part
    /// of them was mapped when they were unmapped. That is a mistake, and where the other part was unmapped by mistake
    /// as well, one range may count twice.
    /// </summary>
    public long QuarantinedRanges { get; init; }

    /// <summary>Units that no longer answer.</summary>
    public int DeadUnits { get; init; }

    /// <summary>These, and what a unit's driver did.</summary>
    /// <param name="unit">The unit.</param>
    internal RemappingStatistics With(IUnitDriver unit)
    {
        UnitStatistics its = unit.Statistics;
        return this with
        {
            PageInvalidations = PageInvalidations + its.PageInvalidations,
            DomainInvalidations = DomainInvalidations + its.DomainInvalidations,
            GlobalInvalidations = GlobalInvalidations + its.GlobalInvalidations,
            ContextInvalidations = ContextInvalidations + its.DeviceInvalidations,
            Waits = Waits + its.Waits,
            QueueErrors = QueueErrors + its.QueueErrors,
            Faults = Faults + its.Faults,
            FaultsLost = FaultsLost + its.FaultsLost,
            Storms = Storms + its.Storms,
            SilencedStorms = SilencedStorms + its.SilencedStorms,
            DeadUnits = DeadUnits + (unit.IsDead ? 1 : 0),
        };
    }

    /// <summary>These, and what was done in a domain.</summary>
    /// <param name="domain">The domain.</param>
    internal RemappingStatistics With(Domain domain) => this with
    {
        Maps = Maps + domain.Addresses.Allocations,
        Unmaps = Unmaps + domain.Addresses.Frees,
        QuarantinedRanges = QuarantinedRanges + domain.QuarantinedRanges,
        DeferredExposures = domain.Deferred?.AddExposures(DeferredExposures) ?? DeferredExposures,
        DeferredExposuresUnmeasured = DeferredExposuresUnmeasured + (domain.Deferred?.Unmeasured ?? 0),
        DeferredFlushes = DeferredFlushes + (domain.Deferred?.Flushes ?? 0),
        DeferredExposureNanoseconds = Math.Max(DeferredExposureNanoseconds, domain.Deferred?.LongestExposure ?? 0),
    };
}
