namespace Sluice.Dma;

/// <summary>
/// A request for a scatter/gather list, made beforehand: it waits without allocating, writes the list into an array
/// of its own, and can be withdrawn.
/// </summary>
/// <remarks>
/// One transfer at a time: a request is in use from the call until its callback runs, it is withdrawn, or the call
/// throws; its elements until the list is put. Safe from any thread.
/// </remarks>
public sealed class ScatterGatherRequest
{
    private readonly DmaAdapter _adapter;
    private int _inUse;

    /// <summary>A request of an adapter.</summary>
    /// <param name="adapter">Whose lists it asks for.</param>
    /// <param name="elements">Elements it has room for; a longer list takes an array from the adapter. 0 for
    /// none.</param>
    public ScatterGatherRequest(DmaAdapter adapter, int elements = 0)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        ArgumentOutOfRangeException.ThrowIfNegative(elements);
        _adapter = adapter;
        Waiter = new(adapter) { Request = this };
        Elements = elements == 0 ? null : new ScatterGatherElement[elements];
    }

    /// <summary>
    /// Why the last use ended without a list, in one clear line; null when it had one or was withdrawn. Set before the
    /// callback runs.
    /// </summary>
    public DmaException? Problem { get; internal set; }

    internal ScatterGatherWaiter Waiter { get; }

    internal ScatterGatherElement[]? Elements { get; }

    /// <summary>Withdraws the request if it still waits.</summary>
    /// <returns>True when its callback will never run; false when it ran, runs or is about to.</returns>
    public bool TryCancel() => _adapter.Withdraw(this);

    internal DmaAdapter Adapter => _adapter;

    internal void Begin()
    {
        if (Interlocked.Exchange(ref _inUse, 1) != 0)
        {
            throw new InvalidOperationException(
                $"a scatter/gather request of {_adapter.Driver} {_adapter.Device} still waits: "
                + "use another for a second list");
        }
        Problem = null;
    }

    internal void End() => Volatile.Write(ref _inUse, 0);
}
