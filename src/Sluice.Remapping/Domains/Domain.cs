using System.Buffers;
using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using Sluice.Formats.PageTables;
using Sluice.Remapping.Allocation;
using Sluice.Remapping.Units;

namespace Sluice.Remapping;

/// <summary>
/// One logical address space. Attached devices reach exactly what is mapped here, with the rights it was mapped with.
/// Mapping and unmapping are safe from any thread and allocate nothing; get one from <see
/// cref="RemappingSystem.CreateDomain"/>.
/// </summary>
/// <remarks>
/// Whoever disposes a domain must have stopped mapping. Devices that put the same requester id on the bus share a
/// domain (<see cref="AliasGroup"/>).
/// </remarks>
public sealed partial class Domain : IDisposable
{
    private const int PageLog2 = 12;

    private readonly RemappingSystem _system;
    private readonly IDomainTables _tables;
    private readonly IFrameAllocator _frames;
    private readonly DeferredRing? _deferred;
    private readonly ConcurrentQueue<LostMapping> _lost = new();
    private readonly bool _announces;

    // A shorter run holds no large leaf.
    private readonly int _largeLeafPages;
    private IDisposable? _timer;
    private IUnitDriver[] _units = [];
    private long _quarantinedRanges;
    private volatile bool _dead;
    private int _told;
    private volatile bool _disposed;

    internal Domain(
        RemappingSystem system, DomainOptions options, AddressSpace space, TableShape shape,
        LogicalAddressAllocator addresses, IPlatform platform, int deferredMappings, Action flushed, bool announces)
    {
        (_system, _tables, _frames, _announces) = (system, space.Tables, platform.Frames, announces);
        (Options, Space, Shape, Addresses) = (options, space, shape, addresses);
        _largeLeafPages = PagesOfLargeLeaf(_tables.PageSizes);
        if (options.Policy == InvalidationPolicy.Deferred)
        {
            _deferred = new(this, platform.Clock, deferredMappings, flushed);
        }
    }

    /// <summary>What it was created with.</summary>
    public DomainOptions Options { get; }

    /// <summary>The name in errors and reports.</summary>
    public string Name => Options.Name;

    /// <summary>The tag of its entries in the units' caches: 1 to 65,535.</summary>
    public ushort Id => Space.Id;

    /// <summary>Its logical addresses.</summary>
    public LogicalAddressAllocator Addresses { get; }

    /// <summary>The last logical address that its tables can translate.</summary>
    public LogicalAddress Last => _tables.Last;

    /// <summary>Whether a unit below it no longer answers or it was disposed; its devices are blocked.</summary>
    public bool IsDead => _dead || _disposed;

    /// <summary>Ranges that will never be handed out again.</summary>
    public long QuarantinedRanges => Volatile.Read(ref _quarantinedRanges);

    /// <summary>Firmware regions mapped here, under the control lock.</summary>
    internal List<LogicalRange> Regions { get; } = [];

    /// <summary>Firmware regions whose addresses are never handed out here, under the control lock.</summary>
    internal List<LogicalRange> Reserved { get; } = [];

    internal IDomainTables Tables => _tables;

    /// <summary>What its units are told of it.</summary>
    internal AddressSpace Space { get; }

    /// <summary>What its tables are like: only units that can walk them join.</summary>
    internal TableShape Shape { get; }

    /// <summary>
    /// Whether what is unmapped stays within reach until a flush, so that its pages are remembered until then.
    /// </summary>
    public bool IsDeferred => _deferred is not null;

    internal DeferredRing? Deferred => _deferred;

    internal IUnitDriver[] Units => Volatile.Read(ref _units);

    /// <summary>
    /// Maps pages, in order, to one run of logical addresses: the device can reach them when this returns.
    /// </summary>
    /// <param name="pages">Page-aligned addresses of <see cref="FrameKind.Buffer"/> frames; 1 to 2^20 of them.</param>
    /// <param name="access">What the device may do; exactly this stands in the tables.</param>
    /// <param name="limit">The last logical byte the device can put on the bus.</param>
    /// <param name="mapping">Keep it for <see cref="Unmap"/>.</param>
    /// <returns>
    /// Why not, if not; then nothing is mapped. With <see cref="MapStatus.Dead"/> pages may be quarantined.
    /// </returns>
    /// <exception cref="ArgumentException">No page, a page that is not aligned, or no access.</exception>
    public MapStatus TryMap(
        ReadOnlySpan<PhysicalAddress> pages, DmaAccess access, LogicalAddress limit, out DomainMapping mapping)
    {
        mapping = default;
        MapStatus status = Check(pages, access);
        if (status != MapStatus.Mapped) { return status; }
        if (!TryAllocate(pages.Length, limit, out LogicalSlot slot)) { return MapStatus.NoLogicalSpace; }
        PageTableChange change = _tables.Map(slot.First, pages, access);
        if (!change.IsDone) { return RollBack(slot, change, pages); }
        mapping = new(slot.First, pages.Length, slot.Log2);
        if (_announces && !Announce(mapping.Range))
        {
            Quarantine(mapping);
            mapping = default;
            return MapStatus.Dead;
        }
        return MapStatus.Mapped;
    }

    /// <summary>
    /// Takes a mapping back. Strict: when this returns no access through it happens or is in flight. Deferred: its
    /// addresses wait for the next flush.
    /// </summary>
    /// <param name="mapping">From <see cref="TryMap"/>, not unmapped before.</param>
    /// <param name="pages">
    /// The pages that were mapped, if the caller still knows: they are quarantined when no unit confirms. Without them
    /// the tables are searched first, which costs about 10 ns a page.
    /// </param>
    /// <returns>Whether the pages may be reused; <see cref="UnmapStatus.Quarantined"/> forbids it.</returns>
    /// <exception cref="InvalidOperationException">
    /// It is not mapped, or not all of it: unmapped twice, or another domain's. What was cleared all the same is as
    /// unreachable as after any other unmap.
    /// </exception>
    public UnmapStatus Unmap(in DomainMapping mapping, ReadOnlySpan<PhysicalAddress> pages = default)
    {
        // Dead comes first: the tables of a domain that died outlive it, for its unit may still walk them.
        if (_dead)
        {
            Quarantine(mapping);
            return UnmapStatus.Quarantined;
        }
        if (_disposed) { return UnmapStatus.Unmapped; }
        return pages.Length == mapping.Pages ? UnmapFound(mapping, pages) : UnmapSearching(mapping);
    }

    /// <summary>
    /// As <see cref="Unmap"/>, with pages that stay where they are and as they are: under the deferred policy they are
    /// remembered there until the flush, and not copied. For mappings of many pages.
    /// </summary>
    /// <param name="mapping">From <see cref="TryMap"/>, not unmapped before.</param>
    /// <param name="pages">The pages that were mapped. Nobody changes them any more.</param>
    /// <returns>As <see cref="Unmap"/>.</returns>
    /// <exception cref="ArgumentException">Another number of pages than was mapped.</exception>
    /// <exception cref="InvalidOperationException">As <see cref="Unmap"/>.</exception>
    public UnmapStatus UnmapLasting(in DomainMapping mapping, ReadOnlyMemory<PhysicalAddress> pages)
    {
        if (pages.Length != mapping.Pages)
        {
            throw new ArgumentException($"{pages.Length} pages for a mapping of {mapping.Pages}", nameof(pages));
        }
        return _deferred is null || IsDead
            ? Unmap(mapping, pages.Span)
            : UnmapLater(mapping, pages.Span, pages);
    }

    /// <summary>
    /// Makes everything unreachable that was unmapped before this call. Nothing to do unless the policy is deferred.
    /// </summary>
    public void FlushNow() => _deferred?.Flush();

    /// <summary>
    /// Takes a mapping whose unmap was <see cref="UnmapStatus.Pending"/> when its unit died: each once, oldest first.
    /// Deferred policy only; there are never more than the ring holds.
    /// </summary>
    /// <param name="lost">The mapping.</param>
    /// <returns>False when there is none.</returns>
    public bool TryTakeLost([NotNullWhen(true)] out LostMapping? lost) => _lost.TryDequeue(out lost);

    /// <summary>
    /// Detaches its devices, leaves them blocked, and frees the tables. Mappings still live are gone with it. Where a
    /// unit no longer answers the tables and the id are lost instead, and unmapping goes on to quarantine the pages.
    /// </summary>
    public void Dispose()
    {
        if (_disposed) { return; }
        // Outside the control lock: a flush under way is waited for.
        try { _timer?.Dispose(); }
        finally { _system.Remove(this); }
    }

    /// <summary>The name and id.</summary>
    public override string ToString() => $"domain {Id} ({Name})";

    /// <summary>From now on invalidations go to <paramref name="unit"/> too. Before it may read the tables.</summary>
    internal void Join(IUnitDriver unit)
    {
        if (Units.Contains(unit)) { return; }
        Volatile.Write(ref _units, [.. _units, unit]);
        // A thread that unmaps clears its entries and then reads the list, without a fence of its own: this one serves
        // both sides.
        Interlocked.MemoryBarrierProcessWide();
        if (unit.IsDead) { MarkDead(); }
    }

    /// <summary>
    /// Invalidations no longer go to <paramref name="unit"/>: no device behind it is attached, and it has confirmed
    /// that it forgot. A dead one stays in the list, for it did not; perhaps nobody has told the domain yet.
    /// </summary>
    internal void Leave(IUnitDriver unit)
    {
        if (unit.IsDead)
        {
            MarkDead();
            return;
        }
        Volatile.Write(ref _units, [.. _units.Where(other => other != unit)]);
    }

    /// <summary>Whether a unit did not confirm something: what was unmapped last may still be within reach.</summary>
    internal bool HasFailed => _dead;

    /// <summary>
    /// Flushes every <paramref name="nanoseconds"/>, on a timer of its own: whatever another domain's unit, or anybody
    /// else, is waiting for.
    /// </summary>
    internal void FlushEvery(IPlatformClock clock, long nanoseconds, Action flushed)
    {
        if (_deferred is not { } ring) { return; }
        _timer = clock.StartTimer($"DMA flush of {Name}", nanoseconds, () =>
        {
            ring.OnTimer();
            flushed();
        });
    }

    /// <summary>
    /// Pages that were unmapped, perhaps given back and perhaps in use by their owner, and that no unit confirmed to be
    /// out of reach.
    /// </summary>
    internal void Lose(LogicalAddress first, ReadOnlySpan<PhysicalAddress> pages)
    {
        if (pages.IsEmpty) { return; }
        QuarantinePages(pages);
        _lost.Enqueue(new(LogicalRange.FromLength(first, (ulong)pages.Length << PageLog2), pages.ToArray()));
    }

    /// <summary>A unit below it no longer answers: whoever finds out first tells the system.</summary>
    internal void MarkDead()
    {
        _dead = true;
        if (Interlocked.Exchange(ref _told, 1) == 0) { _system.OnDomainDeath(this); }
    }

    internal void MarkDisposed() => _disposed = true;

    /// <summary>Drops a range from every unit's caches, and drains. False: some unit did not confirm.</summary>
    internal bool Invalidate(LogicalRange range, bool onlyLeaves)
    {
        bool confirmed = true;
        foreach (IUnitDriver unit in Units)
        {
            confirmed &= unit.Invalidate(Id, range, onlyLeaves);
        }
        // Whoever has given the unit up may not have come to this domain yet.
        if (!confirmed) { MarkDead(); }
        return confirmed;
    }

    /// <summary>Drops everything of the domain from every unit's caches, and drains.</summary>
    internal bool InvalidateAll()
    {
        bool confirmed = true;
        foreach (IUnitDriver unit in Units) { confirmed &= unit.InvalidateDomain(Id); }
        if (!confirmed) { MarkDead(); }
        return confirmed;
    }

    /// <summary>Tells units that cache absence, or keep table writes back, of something new.</summary>
    internal bool Announce(LogicalRange range)
    {
        bool confirmed = true;
        foreach (IUnitDriver unit in Units)
        {
            if (unit.Traits.NeedsAnnouncement) { confirmed &= unit.Announce(Id, range); }
        }
        return confirmed;
    }

    /// <summary>
    /// Undoes a map that got as far as <paramref name="bytes"/>: a hostile device may already have used what was
    /// written.
    /// </summary>
    internal bool TakeBack(LogicalAddress first, ulong bytes)
    {
        if (bytes == 0) { return true; }
        LogicalRange written = LogicalRange.FromLength(first, bytes);
        TableGather gather = default;
        _tables.Unmap(written, ref gather);
        bool confirmed = Invalidate(written, onlyLeaves: false);
        if (confirmed) { _tables.Free(ref gather); }
        return confirmed;
    }

    internal void CountQuarantinedRange() => Interlocked.Increment(ref _quarantinedRanges);

    private MapStatus Check(ReadOnlySpan<PhysicalAddress> pages, DmaAccess access)
    {
        if (pages.IsEmpty) { throw new ArgumentException("a mapping needs at least one page", nameof(pages)); }
        if (access is DmaAccess.None or > DmaAccess.ReadWrite)
        {
            throw new ArgumentException("a mapping needs read or write access", nameof(access));
        }
        if (IsDead) { return MapStatus.Dead; }
        foreach (PhysicalAddress page in pages)
        {
            if (!page.IsAligned(PageLog2))
            {
                throw new ArgumentException($"{page} is not the start of a page", nameof(pages));
            }
            if (_frames.KindOf(page) != FrameKind.Buffer) { return MapStatus.Refused; }
        }
        return MapStatus.Mapped;
    }

    private bool TryAllocate(int pages, LogicalAddress limit, out LogicalSlot slot)
    {
        if (Addresses.TryAllocate(pages, limit, out slot)) { return true; }
        if (_deferred is null) { return false; }
        // The space may be waiting for a flush.
        _deferred.Flush();
        return Addresses.TryAllocate(pages, limit, out slot);
    }

    private UnmapStatus UnmapFound(in DomainMapping mapping, ReadOnlySpan<PhysicalAddress> pages) =>
        _deferred is null ? UnmapNow(mapping, pages) : UnmapLater(mapping, pages);

    private UnmapStatus UnmapNow(in DomainMapping mapping, ReadOnlySpan<PhysicalAddress> pages)
    {
        TableGather gather = default;
        PageTableChange change = _tables.Unmap(mapping.Range, ref gather);
        if (!Invalidate(mapping.Range, onlyLeaves: gather.Count == 0))
        {
            Quarantine(pages);
            return UnmapStatus.Quarantined;
        }
        _tables.Free(ref gather);
        if (change.Bytes != mapping.Range.Length) { throw NotWhole(mapping.First, change); }
        Addresses.Free(new(mapping.First, mapping.SlotLog2));
        return UnmapStatus.Unmapped;
    }

    /// <summary>
    /// Where the pages are must be known before the entries are gone: if no unit confirms, they must never be reused.
    /// </summary>
    private UnmapStatus UnmapSearching(in DomainMapping mapping)
    {
        const int OnStack = 16;
        if (mapping.Pages <= OnStack)
        {
            Span<PhysicalAddress> few = stackalloc PhysicalAddress[mapping.Pages];
            Find(mapping, few);
            return UnmapFound(mapping, few);
        }
        PhysicalAddress[] many = ArrayPool<PhysicalAddress>.Shared.Rent(mapping.Pages);
        try
        {
            Find(mapping, many.AsSpan(0, mapping.Pages));
            return UnmapFound(mapping, many.AsSpan(0, mapping.Pages));
        }
        finally
        {
            ArrayPool<PhysicalAddress>.Shared.Return(many);
        }
    }

    private UnmapStatus UnmapLater(in DomainMapping mapping, ReadOnlySpan<PhysicalAddress> pages,
        ReadOnlyMemory<PhysicalAddress> lasting = default)
    {
        TableGather gather = default;
        PageTableChange change = _tables.Unmap(mapping.Range, ref gather);
        bool isWhole = change.Bytes == mapping.Range.Length;
        if (change.Bytes == 0 && gather.Count == 0) { throw NotMapped(mapping.First); }
        // Whatever was cleared is within reach until a flush. Addresses go back only from who has all of them.
        bool flushes = gather.Count != 0;
        bool confirmed = _deferred!.Add(
            new(mapping.First, mapping.SlotLog2), mapping.First, pages, kept: !isWhole, told: flushes, lasting)
            != DeferredRing.Never;
        UnmapStatus done = UnmapStatus.Pending;
        if (flushes)
        {
            // Tables are only freed once no unit can hold a pointer to them.
            confirmed = confirmed && _deferred.Flush();
            if (confirmed) { _tables.Free(ref gather); }
            done = UnmapStatus.Unmapped;
        }
        if (!confirmed)
        {
            // The ring has counted the range, if it was one.
            if (!isWhole && change.Bytes != 0) { CountQuarantinedRange(); }
            QuarantinePages(pages);
            return UnmapStatus.Quarantined;
        }
        return isWhole ? done : throw NotWhole(mapping.First, change);
    }

    /// <summary>
    /// Undoes a map that met an obstacle, and says why. Without a confirmation the pages it had written stay reachable.
    /// </summary>
    private MapStatus RollBack(LogicalSlot slot, PageTableChange change, ReadOnlySpan<PhysicalAddress> pages)
    {
        if (!TakeBack(slot.First, change.Bytes))
        {
            Quarantine(Written(pages, change));
            return MapStatus.Dead;
        }
        Addresses.Free(slot);
        return change.Status == PageTableStatus.NoFrames
            ? MapStatus.NoMemory
            : throw new InvalidOperationException($"the tables of {this} refuse {slot.First}: {change.Status}");
    }

    private static ReadOnlySpan<PhysicalAddress> Written(ReadOnlySpan<PhysicalAddress> pages, PageTableChange change) =>
        pages[..(int)Math.Min((ulong)pages.Length, change.Bytes >> PageLog2)];

    private void Find(in DomainMapping mapping, Span<PhysicalAddress> pages)
    {
        for (int i = 0; i < pages.Length; i++)
        {
            LogicalAddress address = mapping.First + ((ulong)i << PageLog2);
            if (!_tables.TryFind(address, out pages[i])) { throw NotMapped(address); }
        }
    }

    /// <summary>
    /// A mapping that no unit confirmed to be gone: its pages are found through the tables, which stay as they are.
    /// </summary>
    private void Quarantine(in DomainMapping mapping)
    {
        PhysicalAddress[] pages = new PhysicalAddress[mapping.Pages];
        Find(mapping, pages);
        TableGather gather = default;
        _tables.Unmap(mapping.Range, ref gather);
        Quarantine(pages);
    }

    private void Quarantine(ReadOnlySpan<PhysicalAddress> pages)
    {
        CountQuarantinedRange();
        QuarantinePages(pages);
    }

    /// <summary>
    /// Mappings may share a page, also with another domain's, and its owner may have withdrawn it already: it goes into
    /// quarantine once, and is never in the way of the pages after it.
    /// </summary>
    private void QuarantinePages(ReadOnlySpan<PhysicalAddress> pages)
    {
        foreach (PhysicalAddress page in pages)
        {
            if (!CanQuarantine(page)) { continue; }
            try { _frames.Quarantine(page); }
            catch (InvalidOperationException) when (!CanQuarantine(page))
            {
                // Another thread that shares the page was first: they all learn of a dead unit at the same time.
            }
        }
    }

    // In use, or given back by its owner before the flush.
    private bool CanQuarantine(PhysicalAddress page) =>
        _frames.KindOf(page) is FrameKind.Buffer or FrameKind.AwaitsFlush;

    /// <summary>
    /// Nothing was mapped, or only a part: then its addresses do not go back, for nobody knows whose they are.
    /// </summary>
    private InvalidOperationException NotWhole(LogicalAddress first, PageTableChange change)
    {
        if (change.Bytes != 0) { CountQuarantinedRange(); }
        return NotMapped(first);
    }

    private InvalidOperationException NotMapped(LogicalAddress address) =>
        new($"{address} is not mapped in {this}: unmapped twice, or another domain's mapping");
}
