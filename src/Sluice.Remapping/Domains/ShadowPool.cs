using System.Numerics;
using Sluice.Remapping.Allocation;

namespace Sluice.Remapping;

/// <summary>
/// Memory of a domain that stays mapped, so that a transfer costs a copy instead of a mapping and an invalidation: the
/// device can only ever reach these slots, never the driver's buffers. Slots come per right and size, each followed by
/// an unmapped page. Renting and returning are safe from any thread and allocate nothing once the pool has grown. At
/// the limit idle slots of other kinds are unmapped for the one that is needed.
/// </summary>
/// <remarks>
/// A returned slot is rented again soonest, while its bytes are in the processor's caches. A device that writes late
/// therefore spoils its own next transfer, as on a machine without remapping, but nobody else's memory.
/// </remarks>
public sealed class ShadowPool : IDisposable
{
    private readonly Domain _domain;
    private readonly IPlatform _platform;
    private readonly ShadowPoolOptions _options;
    private readonly Stack[,] _free;
    private readonly List<ShadowBuffer> _all = [];
    private readonly Lock _growing = new();
    private SpinGate _gate;
    private int _pages;
    private int _lost;
    private bool _disposed;

    /// <summary>An empty pool: it grows as slots are rented.</summary>
    /// <exception cref="ArgumentOutOfRangeException">An option is outside its range.</exception>
    public ShadowPool(Domain domain, IPlatform platform, ShadowPoolOptions options)
    {
        ArgumentNullException.ThrowIfNull(domain);
        ArgumentNullException.ThrowIfNull(platform);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)options.LargestSlotLog2, 10u, nameof(options));
        int largest = 1 << options.LargestSlotLog2;
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaximumPages, largest, nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ChunkPages, 1, nameof(options));
        (_domain, _platform, _options) = (domain, platform, options);
        _free = new Stack[(int)DmaAccess.ReadWrite + 1, options.LargestSlotLog2 + 1];
    }

    /// <summary>The most pages one slot can have.</summary>
    public int LargestSlot => 1 << _options.LargestSlotLog2;

    /// <summary>Pages mapped now, rented or not.</summary>
    public int MappedPages => Volatile.Read(ref _pages);

    /// <summary>
    /// Whether so many slots of at least <paramref name="pages"/> pages could be rented together if every other one
    /// came back: those of leaks do not.
    /// </summary>
    /// <param name="pages">Pages in each.</param>
    /// <param name="slots">How many slots.</param>
    /// <param name="kept">Pages in slots that somebody keeps.</param>
    public bool CouldEver(int pages, int slots, int kept)
    {
        if (pages > LargestSlot) { return false; }
        int size = (int)BitOperations.RoundUpToPowerOf2((uint)pages);
        long left = (long)_options.MaximumPages - kept - Volatile.Read(ref _lost);
        // Slots of one size fill a block of addresses that is as large as they are together.
        long together = (long)size * slots;
        return together <= left
            && BitOperations.RoundUpToPowerOf2((uint)together) <= _domain.Addresses.MostPages(_options.Limit);
    }

    /// <summary>A rented slot leaked: it does not come back until it is returned after all.</summary>
    public void Lose(in ShadowSlot slot)
    {
        _gate.Enter();
        if (!slot.Buffer.IsLost) { _lost += slot.Buffer.Pages.Length; }
        slot.Buffer.IsLost = true;
        _gate.Exit();
    }

    /// <summary>Unmaps and frees what is idle, because others need its addresses or memory.</summary>
    /// <returns>Whether there was anything.</returns>
    public bool TryShrink()
    {
        lock (_growing)
        {
            List<ShadowBuffer> idle = _disposed ? [] : TakeIdle();
            if (idle.Count != 0) { GiveUp(idle); }
            return idle.Count != 0;
        }
    }

    /// <summary>
    /// Takes a slot of at least <paramref name="pages"/> pages, mapped with exactly <paramref name="access"/>.
    /// </summary>
    /// <returns>
    /// False when the pool is at its limit or disposed, or memory or logical addresses have run out.
    /// </returns>
    /// <exception cref="ArgumentOutOfRangeException">
    /// No pages, more than <see cref="LargestSlot"/>, or no access.
    /// </exception>
    public bool TryRent(int pages, DmaAccess access, out ShadowSlot slot)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(pages);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(pages, LargestSlot);
        ArgumentOutOfRangeException.ThrowIfZero((int)access, nameof(access));
        ArgumentOutOfRangeException.ThrowIfGreaterThan((int)access, (int)DmaAccess.ReadWrite, nameof(access));
        int log2 = pages == 1 ? 0 : BitOperations.Log2((uint)pages - 1) + 1;
        ShadowBuffer? buffer = Pop(access, log2, log2);
        if (buffer is null)
        {
            lock (_growing)
            {
                buffer = Pop(access, log2, log2);
                while (buffer is null && TryGrow(access, log2)) { buffer = Pop(access, log2, log2); }
            }
            // At the limit a larger slot is better than none, and none of another kind that is idle is worth keeping.
            buffer ??= Pop(access, log2, _options.LargestSlotLog2) ?? Trade(access, log2);
        }
        slot = buffer is null ? default : new(buffer, pages);
        return buffer is not null;
    }

    /// <summary>
    /// Gives a slot back. The transfer is over as far as the driver knows. After <see cref="Dispose"/> it stays
    /// quarantined.
    /// </summary>
    /// <exception cref="InvalidOperationException">It is not rented: returned twice.</exception>
    public void Return(in ShadowSlot slot)
    {
        ShadowBuffer buffer = slot.Buffer
            ?? throw new InvalidOperationException("an empty shadow slot cannot be returned");
        bool rented;
        _gate.Enter();
        try
        {
            rented = buffer.IsRented;
            buffer.IsRented = false;
            if (rented && buffer.IsLost) { _lost -= buffer.Pages.Length; }
            buffer.IsLost = false;
            // A stack may grow, and that may throw.
            if (rented && !_disposed) { _free[(int)buffer.Access, buffer.Log2].Push(buffer); }
        }
        finally
        {
            _gate.Exit();
        }
        if (!rented)
        {
            throw new InvalidOperationException($"the shadow slot at {buffer.Mapping.First} was returned twice");
        }
    }

    /// <summary>
    /// Unmaps and frees all slots. One that is still rented stays mapped for good and its pages are quarantined.
    /// </summary>
    public void Dispose()
    {
        lock (_growing)
        {
            if (_disposed) { return; }
            List<ShadowBuffer> idle = new(_all.Count);
            List<ShadowBuffer> rented = new(_all.Count);
            // Once for each, where nobody can rent it or bring it back meanwhile; afterwards nobody finds one.
            _gate.Enter();
            _disposed = true;
            foreach (ShadowBuffer buffer in _all) { (buffer.IsRented ? rented : idle).Add(buffer); }
            Array.Clear(_free);
            _gate.Exit();
            foreach (ShadowBuffer buffer in rented) { Quarantine(buffer.Pages); }
            GiveUp(idle);
        }
    }

    private ShadowBuffer? Pop(DmaAccess access, int fromLog2, int toLog2)
    {
        ShadowBuffer? buffer = null;
        _gate.Enter();
        for (int log2 = fromLog2; log2 <= toLog2 && buffer is null; log2++)
        {
            ref Stack free = ref _free[(int)access, log2];
            if (free.Count != 0) { buffer = free.Pop(); }
        }
        if (buffer is not null) { buffer.IsRented = true; }
        _gate.Exit();
        return buffer;
    }

    // Idle slots of other sizes and rights for one of this kind; null when even all of them would not do.
    private ShadowBuffer? Trade(DmaAccess access, int log2)
    {
        lock (_growing)
        {
            int room = _options.MaximumPages - _pages;
            // Where the limit leaves room, memory or logical addresses are short: as much must go as comes.
            int wanted = room >= 1 << log2 ? 1 << log2 : (1 << log2) - room;
            List<ShadowBuffer> idle = _disposed ? [] : TakeIdle(wanted);
            if (idle.Count != 0)
            {
                GiveUp(idle);
                TryGrow(access, log2);
            }
            // Also when nothing was traded: somebody may have returned one meanwhile.
            return Pop(access, log2, _options.LargestSlotLog2);
        }
    }

    /// <summary>
    /// Idle slots of so many pages at least, and none when there are fewer; without a number all that there are.
    /// </summary>
    private List<ShadowBuffer> TakeIdle(int? pages = null)
    {
        List<ShadowBuffer> idle = [];
        _gate.Enter();
        try
        {
            int had = 0;
            for (int i = 0; i < _free.Length; i++) { had += FreeAt(i).Pages; }
            int wanted = pages ?? had;
            if (had < wanted) { return idle; }
            for (int i = 0; wanted > 0; i++)
            {
                for (ref Stack free = ref FreeAt(i); wanted > 0 && free.Count != 0; wanted -= idle[^1].Pages.Length)
                {
                    idle.Add(free.TakeOldest());
                }
            }
            return idle;
        }
        finally
        {
            _gate.Exit();
        }
    }

    private ref Stack FreeAt(int index) => ref _free[index / _free.GetLength(1), index % _free.GetLength(1)];

    // They are in no stack any more, so nobody rents them.
    private void GiveUp(List<ShadowBuffer> idle)
    {
        foreach (ShadowBuffer buffer in idle) { _domain.Unmap(buffer.Mapping); }
        _domain.FlushNow();
        foreach (ShadowBuffer buffer in idle)
        {
            // What no unit confirmed to be gone is perhaps still within reach.
            if (_domain.HasFailed) { Quarantine(buffer.Pages); }
            else { Free(buffer.Pages); }
            Volatile.Write(ref _pages, _pages - buffer.Pages.Length);
        }
        HashSet<ShadowBuffer> gone = [.. idle];
        _all.RemoveAll(gone.Contains);
    }

    private bool TryGrow(DmaAccess access, int log2)
    {
        int slots = Math.Max(1, _options.ChunkPages >> log2);
        int made = 0;
        for (; made < slots && !_disposed && _pages + (1 << log2) <= _options.MaximumPages; made++)
        {
            if (!TryMake(access, log2, out ShadowBuffer? buffer)) { break; }
            _all.Add(buffer!);
            _gate.Enter();
            try
            {
                _pages += 1 << log2;
                _free[(int)access, log2].Push(buffer!);
            }
            finally
            {
                _gate.Exit();
            }
        }
        return made != 0;
    }

    private bool TryMake(DmaAccess access, int log2, out ShadowBuffer? buffer)
    {
        buffer = null;
        PhysicalAddress[] pages = new PhysicalAddress[1 << log2];
        for (int i = 0; i < pages.Length; i++)
        {
            if (_platform.Frames.TryAllocate(FrameKind.Buffer, 12, out pages[i])) { continue; }
            Free(pages.AsSpan(0, i));
            return false;
        }
        if (_domain.TryMap(pages, access, _options.Limit, out DomainMapping mapping) != MapStatus.Mapped)
        {
            Free(pages);
            return false;
        }
        buffer = new(mapping, pages, access, log2);
        return true;
    }

    private void Free(ReadOnlySpan<PhysicalAddress> pages)
    {
        foreach (PhysicalAddress page in pages)
        {
            // The domain has quarantined them if a unit died while they were being unmapped.
            if (_platform.Frames.KindOf(page) == FrameKind.Buffer) { _platform.Frames.Free(page, 12); }
        }
    }

    private void Quarantine(ReadOnlySpan<PhysicalAddress> pages)
    {
        foreach (PhysicalAddress page in pages)
        {
            if (_platform.Frames.KindOf(page) == FrameKind.Buffer) { _platform.Frames.Quarantine(page); }
        }
    }

    private struct Stack
    {
        private ShadowBuffer[]? _items;

        public int Count { get; private set; }

        /// <summary>In all of them; every slot of a stack has the same number.</summary>
        public readonly int Pages => Count == 0 ? 0 : Count << _items![0].Log2;

        public void Push(ShadowBuffer buffer)
        {
            _items ??= new ShadowBuffer[16];
            if (Count == _items.Length) { Array.Resize(ref _items, 2 * Count); }
            _items[Count++] = buffer;
        }

        public ShadowBuffer Pop() => _items![--Count];

        /// <summary>The one that was not used for longest. Moves all the others.</summary>
        public ShadowBuffer TakeOldest()
        {
            ShadowBuffer oldest = _items![0];
            Array.Copy(_items, 1, _items, 0, --Count);
            return oldest;
        }
    }
}
