using Sluice.Formats.Vtd;

namespace Sluice.Iommu;

/// <summary>
/// The four registers of one event (fault or completion): control with mask and pending bit, data, address, upper
/// address. Its owner's lock protects it.
/// </summary>
/// <remarks>
/// VT-d specification 7.3 and 11.4.9 to 11.4.12. The upper address is reserved without extended interrupt mode.
/// </remarks>
internal sealed class EventRegisters(IInterruptSink sink)
{
    internal uint Control { get; private set; } = VtdRegister.EventMask;

    internal uint Data { get; private set; }

    internal uint Address { get; private set; }

    /// <summary>Control and data as the 64-bit word they lie in.</summary>
    internal ulong ControlAndData => Control | ((ulong)Data << 32);

    /// <summary>
    /// Sends the message, or remembers it while masked. Handlers never run inside Deliver, so a lock may be held.
    /// </summary>
    internal void Raise()
    {
        if ((Control & VtdRegister.EventMask) != 0)
        {
            Control |= VtdRegister.EventPending;
            return;
        }
        sink.Deliver(new(new(Address), Data));
    }

    /// <summary>Software has served the event itself: nothing is pending any more.</summary>
    internal void Withdraw() => Control &= ~VtdRegister.EventPending;

    /// <summary>Only the mask is writable; unmasking sends what is pending.</summary>
    internal void WriteControl(uint value)
    {
        bool pending = (Control & VtdRegister.EventPending) != 0;
        Control = (value & VtdRegister.EventMask) | (pending ? VtdRegister.EventPending : 0);
        if (!pending || (Control & VtdRegister.EventMask) != 0) { return; }
        Withdraw();
        Raise();
    }

    internal void WriteData(uint value) => Data = value & 0xFFFF;

    internal void WriteAddress(uint value) => Address = value & ~3u;

    internal void Reset() => (Control, Data, Address) = (VtdRegister.EventMask, 0, 0);
}
