namespace Sluice.Dma;

/// <summary>
/// Takes a channel that was waited for, or the reason why there will be none (<paramref name="channel"/> is then
/// null).
/// </summary>
public delegate void DmaChannelCallback(DmaChannel? channel, DmaFailure failure, object? state);

/// <summary>A request for an adapter's channel: a place in its queue that can be left.</summary>
/// <remarks>In use from the call until its callback runs or it is withdrawn. Safe from any thread.</remarks>
public sealed class DmaChannelRequest : IQueued<DmaChannelRequest>
{
    private readonly DmaAdapter _adapter;
    private QueuePlace<DmaChannelRequest> _place;

    /// <summary>A request of an adapter.</summary>
    public DmaChannelRequest(DmaAdapter adapter)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        _adapter = adapter;
    }

    // All of it inside the adapter's gate.
    internal long Ticket;
    internal int MapRegisters;
    internal DmaChannelCallback? Callback;
    internal object? State;

    internal DmaAdapter Adapter => _adapter;

    internal bool IsQueued => _place.Taken;

    ref QueuePlace<DmaChannelRequest> IQueued<DmaChannelRequest>.Place => ref _place;

    /// <summary>Withdraws the request if it still waits.</summary>
    /// <returns>True when its callback will never run; false when it ran, runs or is about to.</returns>
    public bool TryCancel() => _adapter.Withdraw(this);
}
