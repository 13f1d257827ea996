namespace Sluice.Dma;

// The end of the device's DMA that nobody asked for: its domain's unit no longer answers. Whoever waits is answered,
// and whoever comes later hears at once.
public sealed partial class DmaAdapter
{
    // Changes inside the gate, with the end.
    private volatile BlockedSignal _blocked;

    /// <summary>
    /// Cancelled when the device's DMA has ended because its remapping unit no longer answers: nothing is mapped any
    /// more, requests that waited are being answered, and what is in flight may never end. For a driver that would else
    /// wait for its device.
    /// </summary>
    /// <remarks>
    /// Callbacks run where the platform runs what it is posted (<see cref="IPlatformClock.Post"/>), inside no lock and
    /// in no other driver's call, when everybody who waited is answered; one that is registered later runs at once.
    /// Ask again when the device has left a domain that died. Never cancelled where nothing remaps.
    /// </remarks>
    public CancellationToken DeviceBlocked => _blocked.Token;

    /// <summary>What a layer above keeps waiting by itself: called where all waiters are answered.</summary>
    internal Action? ServeAbove { get; set; }

    /// <summary>Takes note that the device's domain died, or that the device is in one that lives.</summary>
    internal void LookForEnd()
    {
        BlockedSignal? left = null;
        _gate.Enter();
        // Inside the gate: of two that look at the same time, the later one has seen more.
        bool dead = _backend.Place?.Space is { IsDead: true };
        if (_end == DmaFailure.Dead && !dead) { (left, _blocked) = (_blocked, new(_platform.Clock, _system.Failures)); }
        if (_end != DmaFailure.Disposed) { _end = dead ? DmaFailure.Dead : DmaFailure.None; }
        _gate.Exit();
        // Whoever tells of deaths may not have come yet, and will find the next signal.
        left?.Tell();
    }

    /// <summary>
    /// After a unit's death: answers whoever can no longer be served. Others may have waited for what it took with it.
    /// No callback of a driver runs in here.
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
            () =>
            {
                // Its driver's routines run in there.
                if (ServeAbove is { } serve) { _platform.Clock.Post(new PostedAction(serve, _system.Failures)); }
            });
    }

    /// <summary>When all are answered: tells the driver whose device is blocked.</summary>
    internal void TellBlocked()
    {
        _gate.Enter();
        BlockedSignal? blocked = _end == DmaFailure.Dead ? _blocked : null;
        _gate.Exit();
        blocked?.Tell();
    }

    private void FailReserved()
    {
        DmaReservation[] all;
        lock (_reservations) { all = [.. _reservations]; }
        EveryStep.ForEach<DmaReservation>(all, static reservation => reservation.FailWaiting(DmaFailure.Dead));
    }
}
