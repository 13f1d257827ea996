namespace Sluice.Dma;

/// <summary>
/// What was thrown where nobody could catch it: by callbacks of others, and by what this library does on a timer or
/// where fault records are read. Safe from any thread; bounded.
/// </summary>
internal sealed class SubscriberFailures
{
    private const int Kept = 16;
    private readonly Lock _lock = new();
    private readonly List<Exception> _first = [];
    private long _count;

    internal long Count => Volatile.Read(ref _count);

    /// <summary>The first of them, oldest first.</summary>
    internal IReadOnlyList<Exception> First
    {
        get
        {
            lock (_lock) { return [.. _first]; }
        }
    }

    internal void Add(Exception thrown)
    {
        Interlocked.Increment(ref _count);
        lock (_lock)
        {
            if (_first.Count < Kept) { _first.Add(thrown); }
        }
    }
}
