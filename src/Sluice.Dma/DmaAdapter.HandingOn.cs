namespace Sluice.Dma;

// From one channel to the next: whoever waits and fits gets what the last one had, and needs no memory for it. So
// drivers that take turns go on however short the machine is.
public sealed partial class DmaAdapter
{
    // For the first request. The channel is taken for it, and counted with its registers as before.
    private HandedOn? _handedOn;

    private readonly record struct HandedOn(BackendReservation Backend, Mapping Record, int Registers);

    // What a channel had when it ended. False when nobody's turn it is, or nobody's who fits: give it back then, else
    // serve.
    private bool TryHandOn(DmaReservation reservation, Mapping record)
    {
        // Pages of a pool are shared with other adapters, which have their turns.
        if (reservation.Backend.Hold.Pages != 0) { return false; }
        _gate.Enter();
        bool fits = _end == DmaFailure.None && !_channelTaken && _channelRequests.First is { } request
            && !IsListBefore(request) && request.MapRegisters <= reservation.MapRegisters;
        if (fits)
        {
            _channelTaken = true;
            _handedOn = new(reservation.Backend, record, reservation.MapRegisters);
        }
        _gate.Exit();
        return fits;
    }

    // A channel over what was handed on. Registers it does not want were given back by then; the rest of the run stays.
    private DmaChannel TakeOver(in HandedOn handed, int registers)
    {
        uint length = LengthOf(registers);
        int elements = (int)ElementBuilder.MostElements(Description, registers, length);
        DmaReservation reservation =
            SetAside(length, registers, 0, handed.Backend, handed.Record, elements, forChannel: true);
        _verifier?.OnTook(DmaResource.Channel, reservation.Channel!, 1, default);
        return reservation.Channel!;
    }

    // For whom it was has left the queue, or it ended.
    private void GiveBack(in HandedOn handed)
    {
        _backend.Unreserve(handed.Backend);
        _gate.Enter();
        _channelTaken = false;
        _gate.Exit();
        GiveReserved(handed.Registers, handed.Record, ofChannel: true);
    }

    // Inside the gate: a list came before this request.
    private bool IsListBefore(DmaChannelRequest request) =>
        _waiters.First is { } waiter && waiter.Ticket < request.Ticket;
}
