namespace Sluice.Iommu;

/// <summary>
/// What a remapping unit of any kind has done since it was made. A snapshot: exact when no DMA and no register access
/// runs. What a kind of unit does not have stays zero.
/// </summary>
public readonly record struct UnitCounters
{
    /// <summary>Translations answered by the caches, over all ports.</summary>
    public long Hits { get; init; }

    /// <summary>Translations that walked tables, over all ports.</summary>
    public long Misses { get; init; }

    /// <summary>Refusals over all ports: always the sum of the four counts below.</summary>
    public long Refused { get; init; }

    /// <summary>Refusals that got a fault record.</summary>
    public long FaultsRecorded { get; init; }

    /// <summary>Refusals without a free fault record.</summary>
    public long FaultsLost { get; init; }

    /// <summary>Refusals of a source that already had a record waiting.</summary>
    public long FaultsCompressed { get; init; }

    /// <summary>
    /// Refusals that software's tables asked to keep silent, or that the specification does not record: those met while
    /// translation is off.
    /// </summary>
    public long FaultsSuppressed { get; init; }

    /// <summary>Context-cache invalidations, by register and by queue.</summary>
    public long ContextInvalidations { get; init; }

    /// <summary>IOTLB invalidations, by register and by queue.</summary>
    public long IotlbInvalidations { get; init; }

    /// <summary>Commands completed that tell software of it: VT-d's wait descriptors.</summary>
    public long Waits { get; init; }

    /// <summary>Times the command queue stopped on an error.</summary>
    public long QueueErrors { get; init; }

    /// <summary>Drains that found a DMA in flight and waited for it.</summary>
    public long DrainsDelayed { get; init; }

    /// <summary>Drains that gave up.</summary>
    public long DrainsTimedOut { get; init; }

    /// <summary>
    /// Walks whose result was used but not cached: an invalidation came between, or another fill was under way.
    /// </summary>
    public long FillsDropped { get; init; }
}
