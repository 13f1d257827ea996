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

    // Who runs one now, or 0.
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
    /// At the end of the adapter: runs what is left, here, and awaits the one that runs elsewhere, unless it is that one
    /// that asks. Bounded.
    /// </summary>
    internal void Finish()
    {
        while (TryTake(out PendingCallback callback)) { Run(callback); }
        if (Volatile.Read(ref _runner) == Environment.CurrentManagedThreadId) { return; }
        SpinWait.SpinUntil(() => Volatile.Read(ref _runner) == 0, LongestWaitMilliseconds);
    }

    void IThreadPoolWorkItem.Execute()
    {
        int me = Environment.CurrentManagedThreadId;
        while (true)
        {
            PendingCallback callback;
            lock (_queue)
            {
                if (!_queue.TryDequeue(out callback))
                {
                    (_running, _runner) = (false, 0);
                    return;
                }
                _runner = me;
            }
            Run(callback);
        }
    }

    private bool TryTake(out PendingCallback callback)
    {
        lock (_queue) { return _queue.TryDequeue(out callback); }
    }

    private void Run(in PendingCallback callback)
    {
        try { callback.Run(); }
        catch (Exception e) { failed(e); }
    }
}
