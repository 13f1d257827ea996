using System.Numerics;

namespace Sluice.Dma;

// When one area is short: pages of all areas, then more memory, then a queue of adapters. First come, first served;
// an adapter goes to the end of the queue after each of its requests, so that one with many does not hold up one
// with few. Nobody takes past those who wait unless the pool satisfies them as well.
internal sealed partial class BouncePool
{
    // 1 GiB, the longest run that a frame allocator hands out.
    private const int LargestBlock = 1 << 18;

    // The queue whose waiters this thread is serving: what comes back meanwhile is offered by that loop.
    [ThreadStatic]
    private static BouncePool? t_waking;

    private SpinGate _gate;
    private FirstComeQueue<BounceTicket> _tickets;
    private int _waiting;

    private bool NobodyWaits => Volatile.Read(ref _waiting) == 0;

    /// <summary>
    /// Offers what came back to the adapters that wait, oldest place first, until one finds it too little.
    /// </summary>
    /// <param name="own">Whose call this is: callbacks of its driver may run here, and no others.</param>
    internal void Wake(BounceTicket? own)
    {
        if (NobodyWaits || t_waking == this) { return; }
        (BouncePool? outer, t_waking) = (t_waking, this);
        Exception? thrown = null;
        (BounceTicket? served, long turn) = (null, 0L);
        while (FirstToServe() is { } ticket && (ticket != served || ticket.Turn != turn))
        {
            (served, turn) = (ticket, ticket.Turn);
            try { ticket.Serve(ticket == own); }
            catch (Exception e) { thrown ??= e; }
        }
        t_waking = outer;
        if (thrown is not null) { System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(thrown); }
    }

    /// <summary>Gives up an adapter's place.</summary>
    internal void Leave(BounceTicket ticket)
    {
        if (!ticket.IsQueued) { return; }
        Withdraw(ticket);
        Wake(ticket);
    }

    /// <summary>Gives up an adapter's place; whose turn it is now is told by the next <see cref="Wake"/>.</summary>
    internal void Withdraw(BounceTicket ticket)
    {
        _gate.Enter();
        Remove(ticket);
        _gate.Exit();
    }

    private bool TryGather(in BounceNeed need, BounceTicket? ticket, out BounceHold hold)
    {
        if (Gather(need, ticket, out hold)) { return true; }
        Interlocked.Increment(ref _short);
        if (TryGrow(need) && Gather(need, ticket, out hold)) { return true; }
        // What can never be served holds up nobody.
        if (ticket is not null && !CouldEver(need)) { Leave(ticket); }
        return false;
    }

    // One thread at a time takes from several areas, so that two cannot each hold half of what both need.
    private bool Gather(in BounceNeed need, BounceTicket? ticket, out BounceHold hold)
    {
        hold = default;
        _gate.Enter();
        if (ticket is not null) { Queue(ticket, need); }
        if (IsItsTurn(need, ticket))
        {
            bool found = need.Run ? GatherRun(need, ref hold) : GatherPages(need.Pages, ref hold);
            if (found && ticket is not null) { Remove(ticket); }
        }
        _gate.Exit();
        return hold.Pages > 0;
    }

    private bool GatherPages(int pages, ref BounceHold hold)
    {
        int mine = Thread.GetCurrentProcessorId();
        for (int i = 0; i < _areas.Length && hold.Pages < pages; i++)
        {
            _areas[(mine + i) & (_areas.Length - 1)].TakeSome(pages - hold.Pages, ref hold);
        }
        if (hold.Pages == pages)
        {
            _gathered++;
            return true;
        }
        Give(hold);
        hold = default;
        return false;
    }

    private bool GatherRun(in BounceNeed need, ref BounceHold hold)
    {
        int mine = Thread.GetCurrentProcessorId();
        for (int i = 0; i < _areas.Length; i++)
        {
            if (_areas[(mine + i) & (_areas.Length - 1)].TryTake(need, out hold)) { return true; }
        }
        return false;
    }

    // Inside the gate.
    private bool IsItsTurn(in BounceNeed need, BounceTicket? ticket)
    {
        int owed = 0;
        for (BounceTicket? older = _tickets.First; older is not null && older != ticket; older = older.Next)
        {
            // Runs cannot be counted against each other: nobody passes who waits for one, or with one.
            if (older.Need.Run || need.Run) { return false; }
            owed += older.Need.Pages;
        }
        return owed == 0 || owed + need.Pages <= FreePages;
    }

    // The ticket in whose turn something could be had, or never will be, if there is such a one.
    private BounceTicket? FirstToServe()
    {
        _gate.Enter();
        BounceTicket? first = _tickets.First;
        _gate.Exit();
        // One that leaked pages have made impossible is served too: it hears so, and leaves the queue to the others.
        return first is not null && (first.Need.Pages <= FreePages || !CouldEver(first.Need)) ? first : null;
    }

    // Inside the gate. The store to the count is a fence: what is given back from now on is followed by a Wake.
    private void Queue(BounceTicket ticket, in BounceNeed need)
    {
        ticket.Need = need;
        if (!_tickets.TryAdd(ticket)) { return; }
        ticket.Turn++;
        Interlocked.Increment(ref _waiting);
    }

    private void Remove(BounceTicket ticket)
    {
        if (_tickets.Remove(ticket)) { Interlocked.Decrement(ref _waiting); }
    }

    private bool TryGrow(in BounceNeed need)
    {
        if (Volatile.Read(ref _pages) >= _atMost) { return false; }
        lock (_growing)
        {
            int room = _atMost - _pages;
            if (_disposed || room <= 0) { return false; }
            int before = _pages;
            if (need.Run)
            {
                // Blocks are aligned to their size: whatever fits between two boundaries fits at the start of one.
                if (need.Pages <= Math.Min(room, LargestBlock)) { TryAddBlock(Mine, need.Pages); }
            }
            else { AddBlocks(Mine, Math.Min(room, Math.Max(need.Pages, _options.Pages / 4))); }
            if (_pages == before) { return false; }
            _grown++;
            return true;
        }
    }

    private void AddBlocks(BounceArea area, int pages)
    {
        for (int size = LargestBlock; pages > 0 && size > 0;)
        {
            size = Math.Min(size, pages);
            if (TryAddBlock(area, size)) { pages -= size; }
            else { size = (int)BitOperations.RoundUpToPowerOf2((uint)size) >> 1; }
        }
    }

    private bool TryAddBlock(BounceArea area, int pages)
    {
        int size = (int)BitOperations.RoundUpToPowerOf2((uint)pages);
        int sizeLog2 = PageLog2 + BitOperations.Log2((uint)size);
        PhysicalAddress reach = new(Limit.Value);
        if (!_platform.Frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress first, reach))
        {
            return false;
        }
        for (int i = pages; i < size; i++) { _platform.Frames.Free(first + ((ulong)i << PageLog2), PageLog2); }
        area.Add(first, pages);
        Volatile.Write(ref _pages, _pages + pages);
        return true;
    }
}
