namespace Sluice.Remapping;

/// <summary>How <see cref="Domain.TryMap"/> ended.</summary>
public enum MapStatus : byte
{
    /// <summary>The device can reach the pages.</summary>
    Mapped,

    /// <summary>
    /// No free logical range of that size below the limit, or the ring of a deferred domain could not be emptied.
    /// </summary>
    NoLogicalSpace,

    /// <summary>No frame was left for a page table.</summary>
    NoMemory,

    /// <summary>A page is not a <see cref="FrameKind.Buffer"/> frame: nothing else ever enters a domain.</summary>
    Refused,

    /// <summary>The domain was disposed, or a unit below it no longer answers. Nothing is mapped any more.</summary>
    Dead,
}

/// <summary>What <see cref="Domain.Unmap"/> achieved.</summary>
public enum UnmapStatus : byte
{
    /// <summary>Unreachable and drained: the pages may be used for anything.</summary>
    Unmapped,

    /// <summary>
    /// Reachable until the next flush (deferred policy): the logical range waits for it, and so does a page whose frame
    /// is given back (<see cref="FrameKind.AwaitsFlush"/>). Whoever keeps the page finds it changed perhaps. Should no
    /// unit confirm the flush, the pages are quarantined then, and told by <see cref="Domain.TryTakeLost"/>.
    /// </summary>
    Pending,

    /// <summary>
    /// The unit did not confirm. The logical range is lost and every page is <see cref="FrameKind.Quarantined"/>: the
    /// caller must not free or reuse them.
    /// </summary>
    Quarantined,
}
