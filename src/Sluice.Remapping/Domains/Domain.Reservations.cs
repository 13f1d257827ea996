using Sluice.Formats.PageTables;
using Sluice.Remapping.Allocation;

namespace Sluice.Remapping;

// Forward progress: what a transfer will need is taken beforehand, so that mapping it later can fail only because a
// page is no buffer or a unit is dead.
public sealed partial class Domain
{
    /// <summary>
    /// Sets aside one run of logical addresses and builds all tables for it. Nothing is mapped yet.
    /// </summary>
    /// <param name="pages">Pages of 4 KiB: 1 to 2^20.</param>
    /// <param name="limit">The last logical byte the device can put on the bus.</param>
    /// <param name="reservation">Give it back with <see cref="FreeReservation"/>.</param>
    /// <returns>Mapped when it stands, else why not; then nothing is taken.</returns>
    public MapStatus TryReserve(int pages, LogicalAddress limit, out DomainReservation? reservation)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(pages);
        reservation = null;
        if (IsDead) { return MapStatus.Dead; }
        if (!TryAllocate(pages, limit, out LogicalSlot slot)) { return MapStatus.NoLogicalSpace; }
        LogicalRange range = LogicalRange.FromLength(slot.First, (ulong)pages << PageLog2);
        PageTableStatus status = _tables.Prepare(range);
        if (status != PageTableStatus.Done) { return RollBack(slot, new(status, range.Length), default); }
        reservation = new(this, slot, pages);
        return MapStatus.Mapped;
    }

    /// <summary>
    /// Maps pages inside a reservation: writes leaves, takes no memory, cannot run short. Allocates nothing.
    /// </summary>
    /// <param name="reservation">Of this domain.</param>
    /// <param name="firstPage">Where in it, in pages from its start.</param>
    /// <param name="pages">Page-aligned addresses of <see cref="FrameKind.Buffer"/> frames.</param>
    /// <param name="access">What the device may do; exactly this stands in the tables.</param>
    /// <param name="mapping">Keep it for unmapping.</param>
    /// <returns>
    /// <see cref="MapStatus.Refused"/> or <see cref="MapStatus.Dead"/>, if not mapped; with the latter pages may be
    /// quarantined.
    /// </returns>
    /// <exception cref="ArgumentException">No page, an unaligned one, no access, another domain's reservation, or
    /// pages that pass its end.</exception>
    /// <exception cref="InvalidOperationException">The reservation was freed, or part of it is mapped.</exception>
    public MapStatus TryMapReserved(
        DomainReservation reservation, int firstPage, ReadOnlySpan<PhysicalAddress> pages, DmaAccess access,
        out ReservedMapping mapping)
    {
        ArgumentNullException.ThrowIfNull(reservation);
        mapping = default;
        if (reservation.Domain != this)
        {
            throw new ArgumentException($"{reservation.Range} is reserved in {reservation.Domain}, not in {this}");
        }
        if (firstPage < 0 || pages.Length > reservation.Pages - firstPage)
        {
            throw new ArgumentOutOfRangeException(nameof(firstPage),
                $"pages {firstPage} to {firstPage + pages.Length - 1} of a reservation of {reservation.Pages}");
        }
        MapStatus status = Check(pages, access);
        if (status != MapStatus.Mapped) { return status; }
        if (!reservation.TryEnter(pages.Length))
        {
            throw new InvalidOperationException($"the reservation {reservation.Range} of {this} was freed");
        }
        // A deferred range is reused only after its flush: who comes sooner makes that flush happen.
        if (_deferred is not null && !_deferred.FlushUntil(Volatile.Read(ref reservation.CleanAfterFlush)))
        {
            reservation.Leave(pages.Length);
            return MapStatus.Dead;
        }
        ReservedMapping wanted = new(reservation, firstPage, pages.Length);
        PageTableChange change = _tables.Map(wanted.First, pages, access);
        if (!change.IsDone) { throw Overlap(wanted, pages, change); }
        if (_announces && !Announce(wanted.Range))
        {
            Quarantine(pages);
            return MapStatus.Dead;
        }
        mapping = wanted;
        return MapStatus.Mapped;
    }

    /// <summary>
    /// Takes a mapping in a reservation back, by the policy, as <see cref="Unmap"/> does. Its tables stay.
    /// </summary>
    /// <param name="mapping">From <see cref="TryMapReserved"/>, not unmapped before.</param>
    /// <param name="pages">The pages that were mapped: they are quarantined when no unit confirms.</param>
    /// <exception cref="ArgumentException">Another number of pages than was mapped.</exception>
    /// <exception cref="InvalidOperationException">
    /// It is not mapped, or not all of it: unmapped twice. What was cleared all the same is as unreachable as after any
    /// other unmap.
    /// </exception>
    public UnmapStatus UnmapReserved(in ReservedMapping mapping, ReadOnlySpan<PhysicalAddress> pages)
    {
        if (pages.Length != mapping.Pages)
        {
            throw new ArgumentException($"{pages.Length} pages for a mapping of {mapping.Pages}", nameof(pages));
        }
        if (_disposed && !_dead) { return UnmapStatus.Unmapped; }
        DomainReservation reservation = mapping.Reservation;
        PageTableChange change = _tables.UnmapLeaves(mapping.Range);
        if (_dead)
        {
            Quarantine(pages);
            return UnmapStatus.Quarantined;
        }
        // Whatever was cleared has to become unreachable, also where it was somebody else's.
        if (change.Bytes != 0 && !Withdraw(mapping, pages))
        {
            Quarantine(pages);
            return UnmapStatus.Quarantined;
        }
        reservation.Leave((int)(change.Bytes >> PageLog2));
        if (change.Bytes != mapping.Range.Length) { throw NotMapped(mapping.First); }
        return _deferred is null ? UnmapStatus.Unmapped : UnmapStatus.Pending;
    }

    /// <summary>Gives a reservation back: its addresses and its tables.</summary>
    /// <exception cref="InvalidOperationException">Something is mapped in it, or it was freed before.</exception>
    public void FreeReservation(DomainReservation reservation)
    {
        ArgumentNullException.ThrowIfNull(reservation);
        if (_disposed) { return; }
        if (_dead)
        {
            CountQuarantinedRange();
            return;
        }
        if (!reservation.TryFree())
        {
            throw new InvalidOperationException(reservation.MappedPages is var mapped and > 0
                ? $"the reservation {reservation.Range} of {this} still has {mapped} mapped pages: unmap them first"
                : $"the reservation {reservation.Range} of {this} was freed already");
        }
        TableGather gather = default;
        _tables.Unmap(reservation.Range, ref gather);
        if (_deferred is not null)
        {
            _deferred.Add(reservation.Slot, reservation.First, default);
            if (gather.Count != 0 && _deferred.Flush()) { _tables.Free(ref gather); }
            return;
        }
        if (gather.Count != 0)
        {
            if (!Invalidate(reservation.Range, onlyLeaves: false))
            {
                CountQuarantinedRange();
                return;
            }
            _tables.Free(ref gather);
        }
        Addresses.Free(reservation.Slot);
    }

    /// <summary>By the policy: out of reach now, or with the next flush. False when a unit did not confirm.</summary>
    private bool Withdraw(in ReservedMapping mapping, ReadOnlySpan<PhysicalAddress> pages)
    {
        if (_deferred is null) { return Invalidate(mapping.Range, onlyLeaves: true); }
        long flush = _deferred.Add(mapping.Reservation.Slot, mapping.First, pages, kept: true);
        mapping.Reservation.CleanAfter(flush);
        return flush != DeferredRing.Never;
    }

    /// <summary>Something stands in the way: what was written before it goes again.</summary>
    private InvalidOperationException Overlap(
        in ReservedMapping wanted, ReadOnlySpan<PhysicalAddress> pages, PageTableChange change)
    {
        if (change.Bytes != 0)
        {
            LogicalRange written = LogicalRange.FromLength(wanted.First, change.Bytes);
            _tables.UnmapLeaves(written);
            if (!Invalidate(written, onlyLeaves: true)) { Quarantine(Written(pages, change)); }
        }
        wanted.Reservation.Leave(wanted.Pages);
        return new(change.Status == PageTableStatus.AlreadyMapped
            ? $"part of {wanted.Range} is mapped already in its reservation of {this}"
            : $"the tables of {this} refuse {wanted.First}: {change.Status}");
    }
}
