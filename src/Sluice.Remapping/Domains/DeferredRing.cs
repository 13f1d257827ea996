using System.Numerics;
using Sluice.Remapping.Allocation;

namespace Sluice.Remapping;

/// <summary>
/// Ranges of a deferred domain that were unmapped but may still be reachable through the units' caches, and the pages
/// behind them. One invalidation of the domain ends that for all of them, and only then do their addresses go back.
/// Where no unit confirms it, the pages are the domain's to withdraw (<see cref="Domain.Lose"/>). Safe from any thread.
/// </summary>
/// <remarks>
/// On a machine that runs on one thread the wait inside a flush may run an interrupt handler that adds and flushes here
/// again. What it adds comes after what the flush under way began with, and is for a later one. A flush inside a flush
/// covers everything there is, and leaves nothing of it to the outer one.
/// </remarks>
/// <param name="domain">Whose ranges they are.</param>
/// <param name="clock">Measures the exposure.</param>
/// <param name="capacity">Ranges until the ring flushes itself.</param>
/// <param name="flushed">Runs after each flush, perhaps inside the ring's lock: it must be short.</param>
internal sealed class DeferredRing(Domain domain, IPlatformClock clock, int capacity, Action flushed)
{
    /// <summary>Instead of the number of a flush: it was refused, and none will come.</summary>
    public const long Never = long.MaxValue;

    /// <summary>
    /// A longer exposure is none, but a clock that jumped: an hour, far beyond any period and any wait of a unit.
    /// </summary>
    public const long LongestMeasured = 3_600_000_000_000;

    private const int Buckets = 24;

    // Pages copied until the ring flushes itself: 32 MiB of mappings.
    private const int PageRoom = 8192;

    // Additions to one reading of the clock, which costs a tenth of a whole get and put.
    private const int Together = 8;

    private readonly Entry[] _pending = new Entry[capacity];
    private readonly PhysicalAddress[] _pages = new PhysicalAddress[PageRoom];
    private readonly ReadOnlyMemory<PhysicalAddress>[] _lasting = new ReadOnlyMemory<PhysicalAddress>[capacity];
    private readonly long[] _exposures = new long[Buckets];
    private readonly Lock _one = new();
    private int _count;
    private int _pageCount;
    private int _underWay;
    private long _started;
    private long _finished;
    private long _mark;
    private long _since;

    // Pages: how many of those copied are its own. None where whoever added it learns in the same call whether its
    // flush was confirmed, and withdraws them itself; none either where they last elsewhere.
    // Half a line of a processor's cache: 256 of them stay in it.
    private readonly record struct Entry(
        LogicalAddress SlotFirst, long Since, int OffsetInSlot, int Pages, byte Log2, bool Kept, bool Lasting)
    {
        public LogicalSlot Slot => new(SlotFirst, Log2);

        public LogicalAddress First => SlotFirst + ((ulong)OffsetInSlot << 12);
    }

    public long Flushes { get; private set; }

    /// <summary>Whether nothing is within reach that was unmapped. A look without the lock.</summary>
    public bool IsEmpty => Volatile.Read(ref _count) == 0;

    /// <summary>The longest time from an unmap to its flush, as far as it could be measured.</summary>
    public long LongestExposure { get; private set; }

    /// <summary>Exposures that could not be measured, because the clock went back or jumped.</summary>
    public long Unmeasured { get; private set; }

    /// <summary>Adds a range whose entries are cleared; flushes when that fills the ring.</summary>
    /// <param name="slot">The range.</param>
    /// <param name="first">Where the pages were mapped in it.</param>
    /// <param name="pages">The pages that were mapped.</param>
    /// <param name="kept">Whether its owner keeps the addresses: then they do not go back at the flush.</param>
    /// <param name="told">Whether the caller flushes next, and withdraws the pages if that is not confirmed.</param>
    /// <param name="lasting">The pages where they stay as they are, if they do: then they are not copied.</param>
    /// <returns>
    /// The flush that ends its exposure: over once <see cref="Flushes"/> is that many. <see cref="Never"/> when this
    /// call had to flush and a unit did not confirm: the range is lost, and counted unless it is kept, and the caller
    /// withdraws the pages.
    /// </returns>
    public long Add(
        LogicalSlot slot, LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages, bool kept = false,
        bool told = false, ReadOnlyMemory<PhysicalAddress> lasting = default)
    {
        if (told || !lasting.IsEmpty) { pages = default; }
        lock (_one)
        {
            bool isFull = _count == _pending.Length || pages.Length > PageRoom - _pageCount;
            if (isFull && _count != 0 && !Flush())
            {
                if (!kept) { domain.CountQuarantinedRange(); }
                return Never;
            }
            // More pages than there is room for are flushed at once; what a handler added meanwhile may be in the way.
            bool fills = _count + 1 == _pending.Length || pages.Length > PageRoom - _pageCount;
            // Those under way began before: any of them may miss it.
            long flush = Flushes + _underWay + 1;
            bool lasts = !told && !fills && !lasting.IsEmpty;
            if (fills) { pages = default; }
            if (lasts) { _lasting[_count] = lasting; }
            else if (pages.Length == 1) { _pages[_pageCount++] = pages[0]; }
            else if (pages.Length != 0)
            {
                pages.CopyTo(_pages.AsSpan(_pageCount));
                _pageCount += pages.Length;
            }
            // Those that follow count as unmapped with the first of them, which is in the ring as long as they are: so
            // the longest exposure is what it was, and no other comes out shorter.
            if (_count % Together == 0 || _underWay != 0) { _since = clock.Nanoseconds; }
            _pending[_count] = new(
                slot.First, _since, (int)((first - slot.First) >> 12), pages.Length, slot.Log2, kept,
                lasts);
            Volatile.Write(ref _count, _count + 1);
            return !fills || Flush() ? flush : Never;
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
        bool confirmed;
        lock (_one)
        {
            if (_count == 0) { return !domain.IsDead; }
            int count = _count;
            long before = Flushes;
            // Before the unit is asked: who finds this number still unused is covered by the next one.
            long number = Interlocked.Increment(ref _started);
            _underWay++;
            try { confirmed = domain.InvalidateAll(); }
            finally { _underWay--; }
            if (Flushes == before) { TakeOut(count, confirmed); }
            Flushes++;
            Volatile.Write(ref _finished, Math.Max(_finished, number));
        }
        flushed();
        return confirmed;
    }

    /// <summary>The timer: as <see cref="Flush"/>, except inside a flush of the same thread.</summary>
    public void OnTimer()
    {
        if (!_one.IsHeldByCurrentThread) { Flush(); }
    }

    /// <summary>
    /// Remembers what is pending now, for <see cref="IsClean"/>. One caller at a time; takes no lock, so that a flush
    /// that waits keeps nobody.
    /// </summary>
    public void MarkPending() => _mark = IsEmpty ? 0 : Interlocked.Read(ref _started) + 1;

    /// <summary>Whether all that was pending at the last mark is out of reach or in quarantine.</summary>
    public bool IsClean => Volatile.Read(ref _finished) >= _mark || IsEmpty;

    /// <summary>
    /// The sum of <paramref name="others"/>, which may be empty, and this ring's: entry n counts exposures below 2^n
    /// microseconds.
    /// </summary>
    public IReadOnlyList<long> AddExposures(IReadOnlyList<long> others)
    {
        long[] sum = [.. others];
        Array.Resize(ref sum, Buckets);
        // Without the lock: it is held while a unit is waited for, and a count that is read late is still a count.
        for (int n = 0; n < Buckets; n++) { sum[n] += Volatile.Read(ref _exposures[n]); }
        return sum;
    }

    /// <summary>Ends the oldest <paramref name="count"/>; what came meanwhile moves up.</summary>
    private void TakeOut(int count, bool confirmed)
    {
        long now = clock.Nanoseconds;
        int page = 0;
        for (int i = 0; i < count; i++)
        {
            ref readonly Entry entry = ref _pending[i];
            if (confirmed)
            {
                Measure(now - entry.Since);
                if (!entry.Kept) { domain.Addresses.Free(entry.Slot); }
            }
            else
            {
                if (!entry.Kept) { domain.CountQuarantinedRange(); }
                domain.Lose(
                    entry.First, entry.Lasting ? _lasting[i].Span : _pages.AsSpan(page, entry.Pages));
            }
            page += entry.Pages;
        }
        _pending.AsSpan(count, _count - count).CopyTo(_pending);
        _lasting.AsSpan(count, _count - count).CopyTo(_lasting);
        _pages.AsSpan(page, _pageCount - page).CopyTo(_pages);
        _pageCount -= page;
        // Last: who sees an empty ring frees pages at once.
        Volatile.Write(ref _count, _count - count);
    }

    private void Measure(long exposure)
    {
        if (exposure is < 0 or > LongestMeasured)
        {
            Unmeasured++;
            return;
        }
        LongestExposure = Math.Max(LongestExposure, exposure);
        int bucket = exposure < 1_000 ? 0 : BitOperations.Log2((ulong)exposure / 1_000) + 1;
        _exposures[Math.Min(bucket, Buckets - 1)]++;
    }
}
