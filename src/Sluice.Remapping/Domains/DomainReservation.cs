using Sluice.Remapping.Allocation;

namespace Sluice.Remapping;

/// <summary>
/// Logical addresses of a domain set aside together with every page table they need: mapping there writes leaves
/// only, takes no memory and cannot run short. From <see cref="Domain.TryReserve"/>; safe from any thread.
/// </summary>
/// <remarks>
/// The closed page behind it belongs to it as well, as with any mapping. Its addresses are the same for every mapping
/// made in it: a device that is late by one transfer meets the next one there.
/// </remarks>
public sealed class DomainReservation
{
    private const int PageLog2 = 12;
    private readonly LogicalSlot _slot;

    // Pages mapped in it now, or Freed.
    private int _mapped;

    internal DomainReservation(Domain domain, LogicalSlot slot, int pages) =>
        (Domain, _slot, Pages) = (domain, slot, pages);

    /// <summary>Whose addresses they are.</summary>
    public Domain Domain { get; }

    /// <summary>The first byte, page aligned.</summary>
    public LogicalAddress First => _slot.First;

    /// <summary>Pages that can be mapped in it.</summary>
    public int Pages { get; }

    /// <summary>Every byte that can be mapped in it.</summary>
    public LogicalRange Range => LogicalRange.FromLength(First, (ulong)Pages << PageLog2);

    /// <summary>
    /// The last byte that nobody else gets while it stands: pages behind <see cref="Range"/> are closed.
    /// </summary>
    public LogicalAddress GuardLast => First + ((1UL << _slot.Log2 << PageLog2) - 1);

    /// <summary>Pages mapped in it now.</summary>
    public int MappedPages => Math.Max(0, Volatile.Read(ref _mapped));

    internal LogicalSlot Slot => _slot;

    /// <summary>Deferred policy: the flush after which nothing unmapped here is reachable.</summary>
    internal long CleanAfterFlush;

    /// <summary>
    /// Nothing unmapped here is reachable after <paramref name="flush"/>, or after a later one that somebody else has
    /// named already: threads come here in another order than they left the ring.
    /// </summary>
    internal void CleanAfter(long flush)
    {
        // Between two flushes all but the first find their number there and store nothing.
        for (long known = Volatile.Read(ref CleanAfterFlush); known < flush;)
        {
            long seen = Interlocked.CompareExchange(ref CleanAfterFlush, flush, known);
            if (seen == known) { return; }
            known = seen;
        }
    }

    internal bool TryEnter(int pages)
    {
        int mapped = Volatile.Read(ref _mapped);
        while (mapped >= 0)
        {
            int seen = Interlocked.CompareExchange(ref _mapped, mapped + pages, mapped);
            if (seen == mapped) { return true; }
            mapped = seen;
        }
        return false;
    }

    internal void Leave(int pages) => Interlocked.Add(ref _mapped, -pages);

    /// <summary>To freed, exactly once and only while nothing is mapped.</summary>
    internal bool TryFree() => Interlocked.CompareExchange(ref _mapped, int.MinValue, 0) == 0;
}

/// <summary>Pages mapped in a reservation. Hand it back to <see cref="Domain.UnmapReserved"/> once.</summary>
/// <remarks>Only a domain makes one, and nobody changes it: it is always a mapping as a whole.</remarks>
public readonly record struct ReservedMapping
{
    internal ReservedMapping(DomainReservation reservation, int firstPage, int pages) =>
        (Reservation, FirstPage, Pages) = (reservation, firstPage, pages);

    /// <summary>Where.</summary>
    public DomainReservation Reservation { get; }

    /// <summary>Its first page, counted from the reservation's.</summary>
    public int FirstPage { get; }

    /// <summary>Mapped pages of 4 KiB.</summary>
    public int Pages { get; }

    /// <summary>The first byte, page aligned.</summary>
    public LogicalAddress First => Reservation.First + ((ulong)FirstPage << 12);

    /// <summary>The mapped bytes.</summary>
    public LogicalRange Range => LogicalRange.FromLength(First, (ulong)Pages << 12);
}
