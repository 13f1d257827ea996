namespace Sluice.Iommu.Vtd;

/// <summary>Why the invalidation queue stopped: IQERCD bits 3:0 (IQEI).</summary>
/// <remarks>VT-d specification 11.4.27.</remarks>
internal enum QueueErrorInformation : byte
{
    /// <summary>It did not, or nothing is known.</summary>
    None = 0,

    /// <summary>The tail lies beyond the queue.</summary>
    TailBeyondQueue = 1,

    /// <summary>A descriptor, or the status word of a wait, lies where there is no memory.</summary>
    Unreachable = 2,

    /// <summary>A descriptor type that this unit does not have.</summary>
    UnknownType = 3,

    /// <summary>A reserved bit, granularity or address mask.</summary>
    ReservedBits = 4,
}
