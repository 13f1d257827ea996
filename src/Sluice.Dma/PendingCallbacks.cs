namespace Sluice.Dma;

/// <summary>The answer to a request that waited, on its way to the driver.</summary>
internal readonly record struct PendingCallback(
    ScatterGatherCallback? OfList, DmaChannelCallback? OfChannel, ScatterGatherLease List, DmaChannel? Channel,
    DmaFailure Failure, object? State)
{
    internal void Run()
    {
        OfList?.Invoke(List, Failure, State);
        OfChannel?.Invoke(Channel, Failure, State);
    }
}

/// <summary>
/// Callbacks of one adapter's driver that cannot run where they were answered. The platform runs them, in order, one at a
/// time; as many wait as requests did.
/// </summary>
/// <remarks>Safe from any thread.</remarks>
internal sealed class PendingCallbacks(IPlatformClock clock, Action<Exception> failed) : IThreadPoolWorkItem
{
    private const int LongestWaitMilliseconds = 1000;

    private readonly Queue<PendingCallback> _queue = new(16);

    // From the first that is queued until none is left.
    private bool _running;

    // The one thread that runs them now, until none is left, or 0.
    private int _runner;

    /// <summary>
    /// Queues a callback that must run elsewhere, or behind those that do: the order stays. False when it may run here.
    /// </summary>
    internal bool TryAdd(in PendingCallback callback, bool elsewhere)
    {
        bool first;
        lock (_queue)
        {
            if (!elsewhere && !_running) { return false; }
            _queue.Enqueue(callback);
            first = !_running;
            _running = true;
        }
        if (first) { clock.Post(this); }
        return true;
    }

    /// <summary>
    /// At the end of the adapter: all have run when this returns. Where one runs elsewhere, that thread runs the rest
    /// too and is waited for; a second at most: those behind one that takes longer run after it, and not beside it. A
    /// callback that ends its own adapter has the rest run inside that call.
    /// </summary>
    internal void Finish() => SpinWait.SpinUntil(() => TryRunAll(mayNest: true), LongestWaitMilliseconds);

    void IThreadPoolWorkItem.Execute() => TryRunAll(mayNest: false);

    // False when another thread is at it, which leaves none.
    private bool TryRunAll(bool mayNest)
    {
        int me = Environment.CurrentManagedThreadId;
        bool nested;
        lock (_queue)
        {
            nested = _runner == me;
            if (_runner != 0 && !(nested && mayNest)) { return false; }
            _runner = me;
        }
        while (TryTake(nested, out PendingCallback callback)) { Run(callback); }
        return true;
    }

    private bool TryTake(bool nested, out PendingCallback callback)
    {
        lock (_queue)
        {
            if (_queue.TryDequeue(out callback)) { return true; }
            if (!nested) { (_running, _runner) = (false, 0); }
            return false;
        }
    }

    private void Run(in PendingCallback callback)
    {
        try { callback.Run(); }
        catch (Exception e) { failed(e); }
    }
}
