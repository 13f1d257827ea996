using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>
/// How an event lies in VT-d's registers: control with mask and pending bit, data, address, upper address.
/// </summary>
/// <remarks>
/// VT-d specification 7.3 and 11.4.9 to 11.4.12. The upper address is reserved without extended interrupt mode.
/// </remarks>
internal static class VtdEvent
{
    /// <summary>Control and data as the 64-bit word they lie in.</summary>
    internal static ulong ControlAndData(this EventRegisters registers) =>
        (registers.IsMasked ? VtdRegister.EventMask : 0)
        | (registers.IsPending ? VtdRegister.EventPending : 0)
        | ((ulong)registers.Data << 32);

    /// <summary>Only the mask is writable.</summary>
    internal static void WriteControl(this EventRegisters registers, uint value) =>
        registers.Mask((value & VtdRegister.EventMask) != 0);

    internal static void WriteData(this EventRegisters registers, uint value) => registers.Data = value & 0xFFFF;

    internal static void WriteAddress(this EventRegisters registers, uint value) =>
        registers.Address = new(value & ~3u);
}
