namespace Sluice.Remapping.Units;

/// <summary>What one unit's driver did. Counters are read one after another, while others count.</summary>
/// <param name="PageInvalidations">Invalidations of a run of pages.</param>
/// <param name="DomainInvalidations">Invalidations of a domain.</param>
/// <param name="GlobalInvalidations">Invalidations of everything.</param>
/// <param name="DeviceInvalidations">Invalidations of what the unit knows of one device.</param>
/// <param name="Waits">Times somebody waited for the unit to confirm.</param>
/// <param name="QueueErrors">Commands that the unit refused.</param>
/// <param name="Faults">Faults read from the unit's records.</param>
/// <param name="FaultsLost">Faults whose records the unit could not keep: a lower bound.</param>
/// <param name="Storms">Times a device's fault reporting was switched off.</param>
/// <param name="SilencedStorms">Those of them whose silence is over.</param>
internal readonly record struct UnitStatistics(
    long PageInvalidations, long DomainInvalidations, long GlobalInvalidations, long DeviceInvalidations, long Waits,
    long QueueErrors, long Faults, long FaultsLost, long Storms, long SilencedStorms);
