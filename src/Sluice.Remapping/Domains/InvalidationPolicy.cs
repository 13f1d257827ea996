namespace Sluice.Remapping;

/// <summary>When a mapping that was taken back stops being reachable, and what that costs.</summary>
public enum InvalidationPolicy : byte
{
    /// <summary>
    /// When <see cref="Domain.Unmap"/> has returned, no access through the mapping happens or is in flight.
    /// </summary>
    Strict,

    /// <summary>
    /// The mapping stays reachable until the next flush (a full ring or the period, whichever is first). Its addresses
    /// are not reused before; the exposure is measured.
    /// </summary>
    Deferred,

    /// <summary>
    /// Devices only ever reach a <see cref="ShadowPool"/>, which stays mapped; what is mapped beside it is strict.
    /// </summary>
    Shadow,
}
