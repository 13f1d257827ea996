namespace Sluice;

/// <summary>Why a remapping unit refused a DMA, in words that every kind of unit shares.</summary>
public enum FaultCause : byte
{
    /// <summary>A reason this software does not know; keep <see cref="DmaFault.HardwareReason"/>.</summary>
    Other,

    /// <summary>The unit has no root, context or device entry for the requester.</summary>
    NotAttached,

    /// <summary>No mapping, or a mapping without the needed right. VT-d does not tell the two apart.</summary>
    AccessDenied,

    /// <summary>The address is wider than the domain's tables can express.</summary>
    AddressTooWide,

    /// <summary>Reserved bits or an impossible combination in a table the unit read.</summary>
    MalformedTables,

    /// <summary>A table lies where there is no memory.</summary>
    TableUnreachable,

    /// <summary>The request touches the interrupt address window in a way that is not an interrupt.</summary>
    InterruptWindow,

    /// <summary>The kind of request (translated, translation request) is not allowed for this requester.</summary>
    RequestBlocked,
}

/// <summary>A DMA that a remapping unit refused, as the operating-system side learned of it.</summary>
/// <param name="Device">Who asked.</param>
/// <param name="Address">Where; the low <paramref name="GranularityLog2"/> bits are unknown and zero.</param>
/// <param name="GranularityLog2">12 where the unit records only the page (VT-d), 0 where it records the byte.</param>
/// <param name="Access">What the device tried.</param>
/// <param name="Cause">Why it was refused.</param>
/// <param name="HardwareReason">The unit's own reason code.</param>
/// <param name="Reason">The unit's kind and reason in words, as <c>VT-d reason 0x05, write permission</c>.</param>
/// <param name="Nanoseconds">When the record was read, on the platform clock.</param>
public readonly record struct DmaFault(
    PciAddress Device,
    LogicalAddress Address,
    int GranularityLog2,
    DmaAccess Access,
    FaultCause Cause,
    int HardwareReason,
    string Reason,
    long Nanoseconds)
{
    /// <summary>
    /// A time on the platform clock before which the DMA was not refused: somebody looked then, and nothing was
    /// recorded that had not been read. 0 when nobody knows. Together with <see cref="Nanoseconds"/> it bounds when the
    /// DMA happened, which no unit records.
    /// </summary>
    public long SinceNanoseconds { get; init; }
}

/// <summary>
/// Takes refused DMAs from the operating-system side. Calls come from the interrupt thread, a timer, or whoever drains
/// or stops a unit: one at a time per unit. They must be short, must not throw and must not call back.
/// </summary>
public interface IFaultSink
{
    /// <summary>One refused DMA.</summary>
    void OnFault(in DmaFault fault);

    /// <summary>
    /// Refused DMAs whose records the hardware could not keep: <paramref name="atLeast"/> is a lower bound.
    /// </summary>
    void OnFaultsLost(ulong atLeast);

    /// <summary>
    /// A time is over in which the unit recorded no faults of <paramref name="device"/>, because it had raised too many
    /// (a storm). What it was refused meanwhile, none to any number, is told of nowhere else. Does nothing by default.
    /// </summary>
    /// <param name="device">The requester that was silenced.</param>
    void OnSilenceEnded(PciAddress device) { }
}
