using System.Numerics;
using Sluice.Remapping.Allocation;

namespace Sluice.Remapping;

/// <summary>
/// Ranges of a deferred domain that were unmapped but may still be reachable through the units' caches. One
/// invalidation of the domain ends that for all of them, and only then do their addresses go back. Safe from any
/// thread.
/// </summary>
/// <remarks>
/// On a machine that runs on one thread the wait inside a flush may run an interrupt handler that adds and flushes here
/// again. What it adds comes after what the flush under way began with, and is for a later one. A flush inside a flush
/// covers everything there is, and leaves nothing of it to the outer one.
/// </remarks>
internal sealed class DeferredRing(Domain domain, IPlatformClock clock, int capacity)
{
    /// <summary>Instead of the number of a flush: it was refused, and none will come.</summary>
    public const long Never = long.MaxValue;

    private const int Buckets = 24;

    // More threads than this do not add between a look at the ring and an addition.
    private const int Margin = 16;
    private readonly (LogicalSlot Slot, long Since, bool Kept)[] _pending = new (LogicalSlot, long, bool)[capacity];
    private readonly long[] _exposures = new long[Buckets];
    private readonly Lock _one = new();
    private int _count;
    private int _underWay;

    public long Flushes { get; private set; }

    /// <summary>Whether an addition soon may have to flush. A look without the lock.</summary>
    public bool IsNearlyFull => Volatile.Read(ref _count) + Margin >= _pending.Length;

    /// <summary>The longest time from an unmap to its flush.</summary>
    public long LongestExposure { get; private set; }

    /// <summary>Adds a range whose entries are cleared; flushes when that fills the ring.</summary>
    /// <param name="slot">The range.</param>
    /// <param name="kept">Whether its owner keeps the addresses: then they do not go back at the flush.</param>
    /// <returns>
    /// The flush that ends its exposure: over once <see cref="Flushes"/> is that many. <see cref="Never"/> when this
    /// call had to flush and a unit did not confirm: the range is lost, and counted unless it is kept.
    /// </returns>
    public long Add(LogicalSlot slot, bool kept = false)
    {
        lock (_one)
        {
            if (_count == _pending.Length && !Flush())
            {
                if (!kept) { domain.CountQuarantinedRange(); }
                return Never;
            }
            // Those under way began before: any of them may miss it.
            long flush = Flushes + _underWay + 1;
            _pending[_count++] = (slot, clock.Nanoseconds, kept);
            return _count < _pending.Length || Flush() ? flush : Never;
        }
    }

    /// <summary>
    /// Makes sure that flush number <paramref name="flush"/> has happened. False when a unit did not confirm.
    /// </summary>
    public bool FlushUntil(long flush)
    {
        lock (_one) { return Flushes >= flush ? !domain.IsDead : Flush(); }
    }

    /// <summary>
    /// Ends the exposure of everything added before. False when a unit did not confirm: those ranges are lost.
    /// </summary>
    public bool Flush()
    {
        lock (_one)
        {
            if (_count == 0) { return !domain.IsDead; }
            int count = _count;
            long before = Flushes;
            bool confirmed;
            _underWay++;
            try { confirmed = domain.InvalidateAll(); }
            finally { _underWay--; }
            if (Flushes == before) { TakeOut(count, confirmed); }
            Flushes++;
            return confirmed;
        }
    }

    /// <summary>The timer: as <see cref="Flush"/>, except inside a flush of the same thread.</summary>
    public void OnTimer()
    {
        if (!_one.IsHeldByCurrentThread) { Flush(); }
    }

    /// <summary>
    /// The sum of <paramref name="others"/>, which may be empty, and this ring's: entry n counts exposures below 2^n
    /// microseconds.
    /// </summary>
    public IReadOnlyList<long> AddExposures(IReadOnlyList<long> others)
    {
        lock (_one) { return [.. _exposures.Select((count, n) => n < others.Count ? count + others[n] : count)]; }
    }

    /// <summary>Ends the oldest <paramref name="count"/>; what came meanwhile moves up.</summary>
    private void TakeOut(int count, bool confirmed)
    {
        long now = clock.Nanoseconds;
        foreach ((LogicalSlot slot, long since, bool kept) in _pending.AsSpan(0, count))
        {
            Measure(now - since);
            if (kept) { continue; }
            if (confirmed) { domain.Addresses.Free(slot); }
            else { domain.CountQuarantinedRange(); }
        }
        _pending.AsSpan(count, _count - count).CopyTo(_pending);
        _count -= count;
    }

    private void Measure(long exposure)
    {
        LongestExposure = Math.Max(LongestExposure, exposure);
        int bucket = exposure < 1_000 ? 0 : BitOperations.Log2((ulong)exposure / 1_000) + 1;
        _exposures[Math.Min(bucket, Buckets - 1)]++;
    }
}
