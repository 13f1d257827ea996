using System.Numerics;

namespace Sluice.Dma;

/// <summary>
/// The bounce pages of all devices that reach equally far. A part for each processor, so that requests meet no lock but
/// their own part's while nothing is short; one queue for when something is.
/// </summary>
/// <remarks>
/// Safe from any thread. Frames come from the machine's allocator, below what the devices reach, as long runs as it has
/// them; they go back when the pool is disposed, except those of leaked transfers.
/// </remarks>
internal sealed partial class BouncePool : IDisposable
{
    private const int PageLog2 = 12;
    private readonly IPlatform _platform;
    private readonly BounceOptions _options;
    private readonly BounceArea[] _areas;
    private readonly Lock _growing = new();
    private readonly int _atMost;
    private int _pages;
    private int _quarantined;
    private long _grown;
    private long _gathered;
    private long _short;
    private volatile bool _disposed;

    internal BouncePool(IPlatform platform, BounceOptions options, LogicalAddress limit)
    {
        (_platform, _options, Limit) = (platform, options, limit);
        int areas = options.Areas > 0 ? options.Areas : Environment.ProcessorCount;
        areas = (int)BitOperations.RoundUpToPowerOf2((uint)areas);
        while (options.Pages > 0 && areas > options.Pages) { areas >>= 1; }
        _areas = new BounceArea[areas];
        for (int i = 0; i < areas; i++)
        {
            _areas[i] = new();
            AddBlocks(_areas[i], (options.Pages / areas) + (i < options.Pages % areas ? 1 : 0));
        }
        // However much it may grow to: half of what the devices reach is for others.
        _atMost = (int)Math.Min((ulong)options.MaximumPages, Math.Max((ulong)_pages, PagesBelow(platform, limit) / 2));
    }

    /// <summary>The last address its devices drive.</summary>
    internal LogicalAddress Limit { get; }

    /// <summary>Pages it has now, and may ever have.</summary>
    internal (int Now, int AtMost) Pages => (Volatile.Read(ref _pages), _atMost);

    /// <summary>Whether somebody holds pages that come back.</summary>
    internal bool HasLent => FreePages < Volatile.Read(ref _pages) - Volatile.Read(ref _quarantined);

    /// <summary>
    /// The longest run it has: a longer one may be had by growing, but nobody knows before it is asked for.
    /// </summary>
    internal int LongestRun
    {
        get
        {
            int longest = 0;
            foreach (BounceArea area in _areas)
            {
                foreach (BounceBlock block in area.Blocks) { longest = Math.Max(longest, block.Pages); }
            }
            return longest;
        }
    }

    internal BounceStatistics Statistics
    {
        get
        {
            long hits = 0;
            foreach (BounceArea area in _areas) { hits += area.Hits; }
            return new(
                Volatile.Read(ref _pages), FreePages, Volatile.Read(ref _quarantined), hits,
                Volatile.Read(ref _gathered), Volatile.Read(ref _short), Volatile.Read(ref _grown));
        }
    }

    private int FreePages
    {
        get
        {
            int free = 0;
            foreach (BounceArea area in _areas) { free += area.FreePages; }
            return free;
        }
    }

    /// <summary>Takes pages, or says that too few are free, or that others wait for them.</summary>
    /// <param name="need">What is needed.</param>
    /// <param name="ticket">The adapter's place, when the request is the first of its queue: it then keeps or takes
    /// its turn in the pool's queue. Null for a request that does not wait.</param>
    /// <param name="hold">The pages, dirty.</param>
    internal bool TryTake(in BounceNeed need, BounceTicket? ticket, out BounceHold hold) =>
        (NobodyWaits && Mine.TryTake(need, out hold)) || TryGather(need, ticket, out hold);

    /// <summary>Takes pages back. The caller wakes who waits when its own books are in order.</summary>
    /// <exception cref="InvalidOperationException">Some are not held; those stay as they are.</exception>
    internal void Give(in BounceHold hold) => Give(hold, released: false);

    /// <summary>
    /// Pages that a device may still reach: kept out of use, and their frames in quarantine, until released.
    /// </summary>
    internal void Quarantine(in BounceHold hold)
    {
        if (hold.Pages == 0) { return; }
        foreach (BounceRun run in hold) { run.Block.Area.Quarantine(run); }
        LeakedFrames.Of(_platform).Add(PagesOf(hold), []);
        Interlocked.Add(ref _quarantined, hold.Pages);
    }

    /// <summary>
    /// The pages of a leaked transfer. What its reservation held goes with it, so that nobody gives it back before the
    /// leak is over.
    /// </summary>
    internal void Quarantine(Mapping mapping)
    {
        ref BackendState state = ref mapping.Backend;
        if (state.Reservation is { } reservation) { state.Bounce = reservation.TakeHold(); }
        Quarantine(state.Bounce);
    }

    /// <summary>No device reaches them any more. The caller wakes who waits.</summary>
    internal void Release(in BounceHold hold)
    {
        if (hold.Pages == 0) { return; }
        // First: the next device is given nothing but buffers.
        LeakedFrames.Of(_platform).End(PagesOf(hold));
        Interlocked.Add(ref _quarantined, -hold.Pages);
        if (!_disposed) { Give(hold, released: true); }
    }

    /// <summary>The leak of this transfer is over. The caller wakes who waits.</summary>
    internal void Release(Mapping mapping)
    {
        Release(mapping.Backend.Bounce);
        mapping.Backend.Bounce = default;
    }

    /// <summary>
    /// Whether that much could be had if everything not leaked were given back. What is set aside by now counts, for
    /// the pool has tried to grow before it says that it is short.
    /// </summary>
    /// <param name="need">What is needed.</param>
    /// <param name="setAside">Reservations that keep what they hold.</param>
    internal bool CouldEver(in BounceNeed need, ReadOnlySpan<BackendReservation> setAside = default)
    {
        int kept = Volatile.Read(ref _quarantined);
        foreach (BackendReservation reservation in setAside) { kept += reservation.Hold.Pages; }
        if (need.Pages > Volatile.Read(ref _pages) - kept) { return false; }
        if (!need.Run) { return true; }
        foreach (BounceArea area in _areas)
        {
            if (area.CouldEverTakeRun(need, setAside)) { return true; }
        }
        return false;
    }

    /// <summary>As <see cref="CouldEver"/>, after growing for it as far as the limit and the machine allow.</summary>
    internal bool CouldHold(in BounceNeed need, ReadOnlySpan<BackendReservation> setAside)
    {
        while (!CouldEver(need, setAside))
        {
            if (need.Pages > _atMost || !TryGrow(need)) { return false; }
        }
        return true;
    }

    /// <summary>After all adapters: frames go back, those of leaked transfers when the leak is over.</summary>
    public void Dispose()
    {
        lock (_growing)
        {
            if (_disposed) { return; }
            _disposed = true;
            foreach (BounceArea area in _areas)
            {
                foreach (BounceBlock block in area.Blocks) { Free(block); }
            }
        }
    }

    private BounceArea Mine => _areas[Thread.GetCurrentProcessorId() & (_areas.Length - 1)];

    private void Give(in BounceHold hold, bool released)
    {
        if (_disposed)
        {
            // The pool is gone and this was still held: the machine gets it at once.
            LeakedFrames.Of(_platform).Give(PagesOf(hold));
            return;
        }
        BounceRuns runs = hold.GetEnumerator();
        bool more = runs.MoveNext();
        while (more) { more = runs.Current.Block.Area.Give(ref runs, released); }
        // The pages are seen free before the queue is seen empty: who queues looks at both the other way round.
        Interlocked.MemoryBarrier();
    }

    private void Free(BounceBlock block)
    {
        for (int i = 0; i < block.Pages; i++)
        {
            PhysicalAddress page = block.AddressOf(i);
            if (block.IsFree(i)) { _platform.Frames.Free(page, PageLog2); }
            else if (block.IsQuarantined(i)) { LeakedFrames.Of(_platform).Give([page]); }
        }
    }

    private static ulong PagesBelow(IPlatform platform, LogicalAddress limit)
    {
        ulong pages = 0;
        foreach (MemoryBank bank in platform.Memory.Banks)
        {
            ulong last = Math.Min(bank.First.Value + (bank.Length - 1), limit.Value);
            if (last > bank.First.Value) { pages += (last - bank.First.Value + 1) >> PageLog2; }
        }
        return pages;
    }

    private static PhysicalAddress[] PagesOf(in BounceHold hold)
    {
        var all = new PhysicalAddress[hold.Pages];
        BouncePages pages = new(hold);
        for (int i = 0; i < all.Length; i++) { all[i] = pages.Next(); }
        return all;
    }
}
