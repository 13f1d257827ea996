namespace Sluice.Iommu.Vtd;

/// <summary>
/// What happens to interrupt messages. This is the place of interrupt remapping; the unit reports ECAP.IR = 0, and
/// without it only the compatibility rule remains: a message is not looked at and passes unchanged, whoever sends it.
/// </summary>
/// <remarks>
/// VT-d specification 5.1.4. IRTA, SIRTP, IRE and CFI are latched so that software which polls their status gets its
/// answer, and have no effect. A unit with remapping will look up the entry that bits 19:5 and 2 of the address name
/// when bit 4 is set, check the source id, and cache the entry until an interrupt-entry invalidation.
/// </remarks>
internal static class InterruptRemapping
{
    /// <summary>
    /// The interrupt address range: a request to it is an interrupt, and nothing is translated into it.
    /// </summary>
    internal static LogicalRange Window => new(new(0xFEE0_0000), new(0xFEEF_FFFF));

    /// <summary>Whether the write is an interrupt request at all: 4 bytes, aligned, inside the window.</summary>
    internal static bool IsRequest(MsiMessage message) =>
        Window.Contains(message.Address) && message.Address.IsAligned(2);

    /// <summary>The compatibility rule.</summary>
    internal static MsiMessage PassCompatible(MsiMessage request) => request;
}
