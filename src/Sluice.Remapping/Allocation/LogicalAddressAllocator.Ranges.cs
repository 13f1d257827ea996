namespace Sluice.Remapping.Allocation;

/// <summary>Logical addresses taken by the page.</summary>
/// <param name="Range">What was asked for.</param>
/// <param name="Taken">All that nobody else gets meanwhile: with its guard pages.</param>
public readonly record struct LogicalSpace(LogicalRange Range, LogicalRange Taken);

// What lives long: any number of pages, bounds, alignment, a closed page on either side. Taken page by page, so that
// nothing is rounded up to a power of two, and searched, which costs more than a slot.
public sealed partial class LogicalAddressAllocator
{
    private const int KeptBackRanges = 64;
    private const ulong NarrowDevicesPages = 16 << 20 >> PageLog2;

    // Freed ranges, oldest first: as the rings do for slots, they keep a late device from meeting the next owner.
    private readonly Queue<LogicalRange> _freed = new();

    /// <summary>Takes a range and, where there is room, one page before and one behind it.</summary>
    /// <param name="pages">Pages of 4 KiB, at least 1.</param>
    /// <param name="bounds">Where every byte of the range lies; guard pages may lie outside.</param>
    /// <param name="alignmentLog2">The range starts at a multiple of this power of two; below 12 counts as 12.</param>
    /// <param name="space">The range.</param>
    /// <returns>
    /// False when the bounds hold no such free range, or none was found where few enough windows come into use: of free
    /// places the lowest is looked at, and what follows from the next window on.
    /// </returns>
    public bool TryAllocateRange(ulong pages, LogicalRange bounds, int alignmentLog2, out LogicalSpace space)
    {
        ArgumentOutOfRangeException.ThrowIfZero(pages);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)alignmentLog2, 63u, nameof(alignmentLog2));
        ulong first = (bounds.First.Value >> PageLog2) + (bounds.First.IsAligned(PageLog2) ? 0UL : 1UL);
        int align = Math.Max(0, alignmentLog2 - PageLog2);
        space = default;
        if (bounds.Last.Value < (1 << PageLog2) - 1 || pages > _far.MostPages) { return false; }
        ulong last = Math.Min(_lastPage, LastWholePage(bounds.Last));
        _gate.Enter();
        try
        {
            for (int attempt = 0; attempt < 3; attempt++)
            {
                // With its guards from what is free, then with what is kept back, then without guards.
                ulong guard = attempt < 2 ? 1UL : 0;
                if (attempt == 1) { Flush(); }
                if (!TryFindRange(pages, first, last, align, guard, out ulong page)) { continue; }
                Take(page - guard, page + (pages - 1) + guard);
                _allocations++;
                space = new(Bytes(page, page + (pages - 1)), Bytes(page - guard, page + (pages - 1) + guard));
                return true;
            }
            return false;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>Gives a range back: the last device access through it must be over.</summary>
    public void Free(in LogicalSpace space)
    {
        _gate.Enter();
        try
        {
            _freed.Enqueue(space.Taken);
            if (_freed.Count > KeptBackRanges) { GiveRange(_freed.Dequeue()); }
            _frees++;
        }
        finally
        {
            _gate.Exit();
        }
    }

    /// <summary>
    /// The most pages that <see cref="TryAllocate"/> could ever give at once: if everything came back but what nobody
    /// ever gets and what is kept. A power of two, or 0.
    /// </summary>
    /// <param name="limit">The last byte the slot may contain.</param>
    /// <param name="kept">Ranges that do not come back.</param>
    public int MostPages(LogicalAddress limit, ReadOnlySpan<LogicalRange> kept = default)
    {
        if (limit.Value < 0x1FFF) { return 0; }
        ulong last = Math.Min(_lastSlotPage, LastWholePage(limit));
        _gate.Enter();
        try
        {
            int log2 = Arena.SizeLog2;
            while (log2 >= 0 && !HasRoom(log2, last, kept)) { log2--; }
            return log2 < 0 ? 0 : 1 << log2;
        }
        finally
        {
            _gate.Exit();
        }
    }

    // Each step passes a hole at least, and there are few.
    private bool HasRoom(int log2, ulong last, ReadOnlySpan<LogicalRange> kept)
    {
        ulong size = 1UL << log2;
        for (ulong page = 0; page <= last && last - page >= size - 1;)
        {
            if (!TryFindHole(page, page + (size - 1), kept, out ulong holeLast)) { return true; }
            page = ((holeLast >> log2) + 1) << log2;
        }
        return false;
    }

    private bool TryFindHole(ulong first, ulong last, ReadOnlySpan<LogicalRange> kept, out ulong holeLast)
    {
        foreach (LogicalRange hole in _holes)
        {
            if (Meets(hole, first, last, out holeLast)) { return true; }
        }
        foreach (LogicalRange hole in kept)
        {
            if (Meets(hole, first, last, out holeLast)) { return true; }
        }
        holeLast = 0;
        return false;
    }

    private static bool Meets(LogicalRange hole, ulong first, ulong last, out ulong holeLast)
    {
        holeLast = hole.Last.Value >> PageLog2;
        return holeLast >= first && hole.First.Value >> PageLog2 <= last;
    }

    private static LogicalRange Bytes(ulong first, ulong last) =>
        new(new(first << PageLog2), new((last << PageLog2) | ((1 << PageLog2) - 1)));

    // Above 4 GiB before below it, and the first 16 MiB last: narrow devices have nothing else.
    private bool TryFindRange(ulong pages, ulong first, ulong last, int align, ulong guard, out ulong page) =>
        TryFindFrom(pages, Math.Max(first, 1UL << Arena.SizeLog2), last, align, guard, out page)
        || TryFindFrom(pages, Math.Max(first, NarrowDevicesPages), last, align, guard, out page)
        || TryFindFrom(pages, first, last, align, guard, out page);

    private bool TryFindFrom(ulong pages, ulong first, ulong last, int align, ulong guard, out ulong page)
    {
        ulong inAlignment = (1UL << align) - 1;
        page = (Math.Max(first, guard) + inAlignment) & ~inAlignment;
        bool moved = false;
        while (page <= last && last - page >= pages - 1)
        {
            ulong to = page + (pages - 1) + guard;
            if (to > _lastPage) { return false; }
            ulong free;
            if (!TryFindTaken(page - guard, to, out ulong obstacle))
            {
                if (NewWindows(page - guard, to) <= _far.Left) { return true; }
                if (moved) { return false; }
                // Once: from the start of a window a range needs the fewest, and looking on has no bound of its own.
                moved = true;
                free = LastOf(page - guard) + 1;
            }
            else if (!TryFindFree(obstacle + 1, last, out free)) { return false; }
            page = (free + guard + inAlignment) & ~inAlignment;
        }
        return false;
    }

    private bool TryFindTaken(ulong first, ulong last, out ulong taken)
    {
        for (ulong from = first; from <= last; from = LastOf(from) + 1)
        {
            ulong end = Math.Min(last, LastOf(from));
            if (!HasWindow(from))
            {
                taken = _far.Left == 0 ? from : FirstReserved(from, end);
                if (taken <= end) { return true; }
                continue;
            }
            int found = ArenaOf(from).FirstTaken(InArena(from), InArena(end));
            if (found < 0) { continue; }
            taken = (from >> Arena.SizeLog2 << Arena.SizeLog2) + (uint)found;
            return true;
        }
        taken = 0;
        return false;
    }

    private bool TryFindFree(ulong first, ulong last, out ulong free)
    {
        for (ulong from = first; from <= last;)
        {
            if (HasWindow(from))
            {
                int found = ArenaOf(from).FirstFree(InArena(from));
                free = (from >> Arena.SizeLog2 << Arena.SizeLog2) + (uint)found;
                if (found >= 0) { return true; }
                from = LastOf(from) + 1;
            }
            else if (_far.Left > 0)
            {
                free = AfterReserved(from);
                if (LastOf(free) == LastOf(from)) { return free <= last; }
                from = free;
            }
            else if (_far.TryNext(from >> Arena.SizeLog2, out ulong index)) { from = index << Arena.SizeLog2; }
            else { break; }
        }
        free = 0;
        return false;
    }

    // The windows that slots use come into being when they are looked at; others when something is taken in them.
    private bool HasWindow(ulong page) =>
        page <= _lastSlotPage || _far[page >> Arena.SizeLog2] is not null;

    private int NewWindows(ulong first, ulong last)
    {
        int count = 0;
        for (ulong from = first; from <= last; from = LastOf(from) + 1) { count += HasWindow(from) ? 0 : 1; }
        return count;
    }

    private ulong FirstReserved(ulong first, ulong last)
    {
        ulong lowest = ulong.MaxValue;
        foreach (LogicalRange hole in _holes)
        {
            if (!Meets(hole, first, last, out _)) { continue; }
            lowest = Math.Min(lowest, Math.Max(hole.First.Value >> PageLog2, first));
        }
        return lowest;
    }

    private ulong AfterReserved(ulong page)
    {
        // Holes may overlap: each turn leaves one behind.
        for (bool moved = true; moved;)
        {
            moved = false;
            foreach (LogicalRange hole in _holes)
            {
                if (page < hole.First.Value >> PageLog2 || page > hole.Last.Value >> PageLog2) { continue; }
                page = (hole.Last.Value >> PageLog2) + 1;
                moved = true;
            }
        }
        return page;
    }

    private void Take(ulong first, ulong last)
    {
        for (ulong from = first; from <= last; from = LastOf(from) + 1)
        {
            ArenaOf(from).TakeRange(InArena(from), InArena(Math.Min(last, LastOf(from))));
        }
    }

    private void GiveRange(LogicalRange range)
    {
        ulong last = range.Last.Value >> PageLog2;
        for (ulong from = range.First.Value >> PageLog2; from <= last; from = LastOf(from) + 1)
        {
            Arena arena = ArenaOf(from);
            arena.GiveRange(InArena(from), InArena(Math.Min(last, LastOf(from))));
            if (from > _lastSlotPage && IsUnused(arena, from)) { _far.Remove(from >> Arena.SizeLog2); }
        }
    }

    private bool IsUnused(Arena arena, ulong page)
    {
        ulong first = page >> Arena.SizeLog2 << Arena.SizeLog2;
        foreach ((ulong from, ulong to) in Unreserved(first, Math.Min(_lastPage, LastOf(page))))
        {
            if (!arena.IsFree(InArena(from), InArena(to))) { return false; }
        }
        return true;
    }
}
