using System.Numerics;

namespace Sluice.Remapping.Allocation;

/// <summary>
/// A slot of logical addresses: 2^<paramref name="Log2"/> pages from <paramref name="First"/>, naturally aligned.
/// </summary>
/// <param name="First">The first byte.</param>
/// <param name="Log2">Pages, as a power of two.</param>
public readonly record struct LogicalSlot(LogicalAddress First, byte Log2);

/// <summary>
/// The logical addresses of one domain, in pages of 4 KiB. Safe from any thread; allocates nothing once warm; never
/// hands out page 0.
/// </summary>
/// <remarks>
/// Two layers (docs/adr/0002): per size a first-in-first-out ring of freed slots, which is both the fast path and the
/// quarantine, over windows of 4 GiB that split and merge by the buddy rule. Callers that reach above 4 GiB are served
/// there first, so that they do not eat the addresses that narrow devices need.
/// </remarks>
public sealed partial class LogicalAddressAllocator
{
    private const int PageLog2 = 12;
    private const int MaximumDepth = 256;
    private const int QuarantinedPagesLog2 = 14;

    // What is never handed out; it only grows.
    private readonly List<LogicalRange> _holes;
    private readonly Arena?[] _arenas;
    private readonly FarArenas _far;
    private readonly SlotRing?[] _lowRings = new SlotRing?[Arena.SizeLog2 + 1];
    private readonly SlotRing?[] _highRings = new SlotRing?[Arena.SizeLog2 + 1];
    private readonly ulong _lastPage;
    private readonly ulong _lastSlotPage;
    private long _allocations;
    private long _frees;
    private SpinGate _gate;

    /// <summary>All addresses up to <paramref name="last"/> except page 0 and <paramref name="reserved"/>.</summary>
    /// <param name="last">The last byte that may be handed out; the part of a page at its end is not used.</param>
    /// <param name="reserved">
    /// Ranges never handed out; pages that they touch count whole. They may overlap and lie anywhere.
    /// </param>
    /// <param name="maximumArenas">
    /// Windows of 4 GiB that slots spread over, from the lowest; ranges may lie in as many others, anywhere.
    /// </param>
    public LogicalAddressAllocator(LogicalAddress last, IEnumerable<LogicalRange> reserved, int maximumArenas = 64)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(last.Value, 0x1FFFUL, nameof(last));
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(maximumArenas);
        _holes = [LogicalRange.FromLength(default, 1 << PageLog2), .. reserved];
        _lastPage = LastWholePage(last);
        _arenas = new Arena?[(int)Math.Min((ulong)maximumArenas, (_lastPage >> Arena.SizeLog2) + 1)];
        _far = new(maximumArenas);
        _lastSlotPage = Math.Min(_lastPage, ((ulong)_arenas.Length << Arena.SizeLog2) - 1);
        _arenas[0] = NewArena(index: 0);
    }

    /// <summary>Slots handed out so far.</summary>
    public long Allocations => Volatile.Read(ref _allocations);

    /// <summary>Slots given back so far.</summary>
    public long Frees => Volatile.Read(ref _frees);

    /// <summary>
    /// How many later frees of the same size a slot of 2^<paramref name="log2"/> pages waits for, unless space runs
    /// short.
    /// </summary>
    public static int QuarantineDepth(int log2) =>
        Math.Min(MaximumDepth, Math.Max(1, 1 << QuarantinedPagesLog2 >> log2));

    /// <summary>
    /// Takes a slot for <paramref name="pages"/> pages and an unmapped guard page behind them. When space is short the
    /// quarantine is emptied, and then the guard given up; 2^20 pages, a whole window, never have one.
    /// </summary>
    /// <param name="pages">1 to 2^20; above that nothing is found.</param>
    /// <param name="limit">The last byte the slot may contain.</param>
    /// <param name="slot">The slot.</param>
    /// <returns>False when no aligned free range of that size is left below the limit.</returns>
    public bool TryAllocate(int pages, LogicalAddress limit, out LogicalSlot slot)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(pages);
        slot = default;
        if (pages > 1 << Arena.SizeLog2 || limit.Value < 0x1FFF) { return false; }
        ulong lastPage = Math.Min(_lastPage, LastWholePage(limit));
        // A whole window has no room for its guard page.
        int guarded = Math.Min(Log2Ceiling(pages + 1), Arena.SizeLog2);
        int bare = Log2Ceiling(pages);
        int log2 = guarded;
        bool found;
        _gate.Enter();
        try
        {
            found = TryRing(guarded, lastPage, out ulong page)
                || TryArenas(guarded, lastPage, out page)
                || (Flush() && TryArenas(guarded, lastPage, out page));
            if (!found && bare != guarded)
            {
                log2 = bare;
                found = TryArenas(bare, lastPage, out page);
            }
            if (found)
            {
                _allocations++;
                slot = new(new(page << PageLog2), (byte)log2);
            }
        }
        finally
        {
            // A new window or a new size allocates, and may throw.
            _gate.Exit();
        }
        return found;
    }

    /// <summary>Gives a slot back: the last device access through it must be over.</summary>
    /// <exception cref="ArgumentException">It cannot have come from here.</exception>
    public void Free(LogicalSlot slot)
    {
        ulong page = slot.First.Value >> PageLog2;
        if (slot.Log2 > Arena.SizeLog2 || !slot.First.IsAligned(PageLog2 + slot.Log2) || page > _lastSlotPage)
        {
            throw new ArgumentException($"{slot} is no slot of this allocator", nameof(slot));
        }
        bool known;
        _gate.Enter();
        try
        {
            SlotRing? ring = Rings(page)[slot.Log2];
            known = ring is not null;
            if (known)
            {
                if (ring!.IsFull) { GiveToArena(slot.Log2, ring.TakeOldest()); }
                ring.Add(page);
                _frees++;
            }
        }
        finally
        {
            _gate.Exit();
        }
        if (!known) { throw new ArgumentException($"{slot} is no slot of this allocator", nameof(slot)); }
    }

    /// <summary>
    /// Sets a range aside for good, as a firmware region that must keep its addresses. What is reserved already, or
    /// lies where nothing is ever handed out, does not matter.
    /// </summary>
    /// <returns>False, and nothing changed, when part of it is handed out.</returns>
    public bool TryReserve(LogicalRange range)
    {
        ulong first = range.First.Value >> PageLog2;
        ulong last = Math.Min(range.Last.Value >> PageLog2, _lastPage);
        _gate.Enter();
        try
        {
            if (first > last || _holes.Exists(hole => hole.Contains(range))) { return true; }
            Flush();
            // Where no window is yet, nothing is handed out, and one that comes into being looks at what is reserved.
            List<(ulong First, ulong Last)> pieces = [];
            foreach (ulong index in Windows(first >> Arena.SizeLog2, last >> Arena.SizeLog2))
            {
                ulong window = index << Arena.SizeLog2;
                pieces.AddRange(Unreserved(Math.Max(first, window), Math.Min(last, LastOf(window))));
            }
            foreach ((ulong from, ulong to) in pieces)
            {
                if (!ArenaOf(from).IsFree(InArena(from), InArena(to))) { return false; }
            }
            foreach ((ulong from, ulong to) in pieces) { ArenaOf(from).TakeRange(InArena(from), InArena(to)); }
            _holes.Add(range);
            return true;
        }
        finally
        {
            _gate.Exit();
        }
    }

    private static ulong LastWholePage(LogicalAddress last) =>
        last.Value == ulong.MaxValue ? ulong.MaxValue >> PageLog2 : ((last.Value + 1) >> PageLog2) - 1;

    private static int Log2Ceiling(int value) => value <= 1 ? 0 : BitOperations.Log2((uint)value - 1) + 1;

    private static int InArena(ulong page) => (int)(page & ((1 << Arena.SizeLog2) - 1));

    /// <summary>The last page of the window that a page is in.</summary>
    private static ulong LastOf(ulong page) => page | ((1 << Arena.SizeLog2) - 1);

    private SlotRing?[] Rings(ulong page) => page >> Arena.SizeLog2 == 0 ? _lowRings : _highRings;

    private bool TryRing(int log2, ulong lastPage, out ulong page)
    {
        page = 0;
        bool wide = lastPage >> Arena.SizeLog2 != 0;
        return (wide ? _highRings : _lowRings)[log2] is { } ring && ring.TryTake(1UL << log2, lastPage, out page);
    }

    private bool TryArenas(int log2, ulong lastPage, out ulong page)
    {
        int lastArena = (int)Math.Min(lastPage >> Arena.SizeLog2, (ulong)_arenas.Length - 1);
        for (int i = 1; i <= lastArena; i++)
        {
            if (TryArena(i, log2, lastPage, out page)) { return true; }
        }
        return TryArena(0, log2, lastPage, out page);
    }

    private bool TryArena(int index, int log2, ulong lastPage, out ulong page)
    {
        Arena arena = _arenas[index] ??= NewArena((ulong)index);
        ulong first = (ulong)index << Arena.SizeLog2;
        int last = (int)Math.Min(lastPage - first, (1 << Arena.SizeLog2) - 1);
        bool taken = arena.TryTake(log2, last, out int inArena);
        page = first + (uint)inArena;
        // Here, not when the first slot comes back: taking a new size may allocate, giving back never does.
        if (taken) { Rings(page)[log2] ??= new(QuarantineDepth(log2)); }
        return taken;
    }

    private bool Flush()
    {
        for (int log2 = 0; log2 <= Arena.SizeLog2; log2++)
        {
            for (SlotRing? ring = _lowRings[log2]; ring is { Count: > 0 };) { GiveToArena(log2, ring.TakeOldest()); }
            for (SlotRing? ring = _highRings[log2]; ring is { Count: > 0 };) { GiveToArena(log2, ring.TakeOldest()); }
        }
        while (_freed.TryDequeue(out LogicalRange range)) { GiveRange(range); }
        return true;
    }

    private void GiveToArena(int log2, ulong page) => ArenaOf(page).Give(log2, InArena(page));

    private Arena ArenaOf(ulong page)
    {
        ulong index = page >> Arena.SizeLog2;
        return index < (ulong)_arenas.Length
            ? _arenas[index] ??= NewArena(index)
            : _far[index] ?? _far.Add(index, NewArena(index));
    }

    private Arena NewArena(ulong index)
    {
        Arena arena = new();
        ulong first = index << Arena.SizeLog2;
        foreach ((ulong from, ulong to) in Unreserved(first, Math.Min(_lastPage, LastOf(first))))
        {
            arena.GiveRange(InArena(from), InArena(to));
        }
        return arena;
    }

    /// <summary>The windows that there are, of those from one to another.</summary>
    private IEnumerable<ulong> Windows(ulong first, ulong last)
    {
        for (ulong index = first; index <= last && index < (ulong)_arenas.Length; index++)
        {
            if (_arenas[index] is not null) { yield return index; }
        }
        foreach (ulong index in _far.Indices)
        {
            if (index >= first && index <= last) { yield return index; }
        }
    }

    /// <summary>The pages of a range that nobody reserved, as runs that do not cross an arena.</summary>
    private List<(ulong First, ulong Last)> Unreserved(ulong first, ulong last)
    {
        List<(ulong First, ulong Last)> pieces = [];
        for (ulong start = first; start <= last;)
        {
            ulong end = Math.Min(last, LastOf(start));
            pieces.Add((start, end));
            start = end + 1;
        }
        foreach (LogicalRange hole in _holes)
        {
            ulong holeFirst = hole.First.Value >> PageLog2;
            ulong holeLast = hole.Last.Value >> PageLog2;
            List<(ulong First, ulong Last)> rest = [];
            foreach ((ulong from, ulong to) in pieces)
            {
                if (holeLast < from || holeFirst > to)
                {
                    rest.Add((from, to));
                    continue;
                }
                if (from < holeFirst) { rest.Add((from, holeFirst - 1)); }
                if (to > holeLast) { rest.Add((holeLast + 1, to)); }
            }
            pieces = rest;
        }
        return pieces;
    }
}
