namespace Sluice.Machines;

/// <summary>
/// Timers by due time, ties in the order they were set. Safe from any thread; callbacks run outside the queue's lock.
/// </summary>
internal sealed class TimerQueue
{
    private readonly Lock _lock = new();
    private readonly PriorityQueue<PlatformTimer, (long Due, long Order)> _queue = new();
    private long _order;

    /// <summary>When the next timer is due; <see cref="long.MaxValue"/> when none is set.</summary>
    public long NextDue
    {
        get
        {
            lock (_lock) { return _queue.TryPeek(out _, out (long Due, long Order) key) ? key.Due : long.MaxValue; }
        }
    }

    public void Add(PlatformTimer timer, long due)
    {
        lock (_lock) { _queue.Enqueue(timer, (due, _order++)); }
    }

    /// <summary>Takes the first timer that is due; null when none is.</summary>
    public PlatformTimer? TakeDue(long now)
    {
        lock (_lock)
        {
            return _queue.TryPeek(out _, out (long Due, long Order) key) && key.Due <= now ? _queue.Dequeue() : null;
        }
    }
}

/// <summary>One timer. Disposing waits for a running callback, except from inside that callback.</summary>
internal sealed class PlatformTimer(string name, long period, Action callback) : IDisposable
{
    private readonly Lock _running = new();
    private volatile bool _disposed;

    public string Name { get; } = name;

    public long Period { get; } = period;

    public bool IsDisposed => _disposed;

    public void Run()
    {
        lock (_running)
        {
            if (!_disposed) { callback(); }
        }
    }

    public void Dispose()
    {
        _disposed = true;
        BoundedLock.WaitFor(_running, Name);
    }
}

/// <summary>Waiting for a callback that must end soon.</summary>
internal static class BoundedLock
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(10);

    /// <summary>Returns once nobody holds <paramref name="running"/>; at once when this thread does.</summary>
    /// <exception cref="TimeoutException">Ten seconds were not enough.</exception>
    public static void WaitFor(Lock running, string name)
    {
        if (!running.TryEnter(Limit))
        {
            throw new TimeoutException($"{name} is still running after {Limit.TotalSeconds} s");
        }
        running.Exit();
    }
}
