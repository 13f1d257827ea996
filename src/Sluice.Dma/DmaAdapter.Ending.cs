namespace Sluice.Dma;

// The end of the device's DMA that nobody asked for: its domain's unit no longer answers. Whoever waits is answered,
// and whoever comes later hears at once.
public sealed partial class DmaAdapter
{
    /// <summary>
    /// Cancelled when the device's DMA has ended because its remapping unit no longer answers: nothing is mapped any
    /// more, requests that waited are being answered, and what is in flight may never end. For a driver that would else
    /// wait for its device.
    /// </summary>
    /// <remarks>
    /// Callbacks run on the platform's timer, inside no lock; one that is registered later runs at once. It is the
    /// domain's that the device is in: ask again after the device has moved. Never cancelled where nothing remaps.
    /// </remarks>
    public CancellationToken DeviceBlocked => Domain.Died;

    /// <summary>What a layer above keeps waiting by itself: called where all waiters are answered.</summary>
    internal Action? ServeAbove { get; set; }

    /// <summary>Takes note that the device's domain died, or that the device is in one that lives.</summary>
    internal void LookForEnd()
    {
        _gate.Enter();
        // Inside the gate: of two that look at the same time, the later one has seen more.
        bool dead = _backend.Place?.Space is { IsDead: true };
        if (_end != DmaFailure.Disposed) { _end = dead ? DmaFailure.Dead : DmaFailure.None; }
        _gate.Exit();
    }

    /// <summary>
    /// After a unit's death: answers whoever can no longer be served. Others may have waited for what it took with it.
    /// </summary>
    internal void AnswerAll()
    {
        bool dead = _end == DmaFailure.Dead;
        EveryStep.Of(
            () =>
            {
                if (dead) { FailReserved(); }
            },
            () => Serve(ofAnother: true),
            () => ServeAbove?.Invoke(),
            () =>
            {
                if (dead) { Domain.TellDeath(); }
            });
    }

    private void FailReserved()
    {
        DmaReservation[] all;
        lock (_reservations) { all = [.. _reservations]; }
        EveryStep.ForEach<DmaReservation>(all, static reservation => reservation.FailWaiting(DmaFailure.Dead));
    }
}
