namespace Sluice.Iommu;

/// <summary>
/// One event of a unit's own and the message that tells of it: address, data, a mask, and whether it waits for the mask
/// to be lifted. How the bits lie in registers is the unit's. Its owner's lock protects it.
/// </summary>
internal sealed class EventRegisters(IInterruptSink sink)
{
    internal uint Data { get; set; }

    internal LogicalAddress Address { get; set; }

    /// <summary>Whether the message is held back; so it is out of reset.</summary>
    internal bool IsMasked { get; private set; } = true;

    /// <summary>Whether a message waits for the mask to be lifted.</summary>
    internal bool IsPending { get; private set; }

    /// <summary>
    /// Sends the message, or remembers it while masked. Handlers never run inside Deliver, so a lock may be held.
    /// </summary>
    internal void Raise()
    {
        IsPending = IsMasked;
        if (!IsMasked) { sink.Deliver(new(Address, Data)); }
    }

    /// <summary>Software has served the event itself: nothing is pending any more.</summary>
    internal void Withdraw() => IsPending = false;

    /// <summary>Sets the mask, or lifts it and sends what is pending.</summary>
    internal void Mask(bool on)
    {
        IsMasked = on;
        if (!on && IsPending) { Raise(); }
    }

    internal void Carry(StateWords state)
    {
        (IsMasked, IsPending) = (state.Carry(IsMasked), state.Carry(IsPending));
        (Data, Address) = (state.Carry(Data), new(state.Carry(Address.Value)));
    }

    internal void Reset() => (IsMasked, IsPending, Data, Address) = (true, false, 0, default);
}
