using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// A byte range of an MDL chain and the way its data goes: what a back-end is asked to make reachable.
/// </summary>
/// <param name="Mdl">The first MDL of the buffer; null in a record that maps none.</param>
/// <param name="Offset">The first byte, counted from its start.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Direction">Which way they go.</param>
/// <param name="Elements">An array of the driver's for the list; null for one of the adapter's.</param>
internal readonly record struct Transfer(
    Mdl? Mdl, uint Offset, uint Length, DmaDirection Direction, ScatterGatherElement[]? Elements = null);

/// <summary>What a back-end keeps in a mapping between map and unmap.</summary>
internal struct BackendState
{
    /// <summary>Map registers held: pages of the transfer.</summary>
    internal int MapRegisters;

    /// <summary>Whose registers they are; null for the adapter's own.</summary>
    internal DmaChannel? Channel;

    /// <summary>What to use, and nothing else; null for the pools that all transfers share.</summary>
    internal BackendReservation? Reservation;

    /// <summary>Remapping: what was mapped for this transfer alone; no pages when nothing was.</summary>
    internal DomainMapping Mapping;

    /// <summary>Shadow: the slot that stands in for the buffer; no pages when none does.</summary>
    internal ShadowSlot Slot;

    /// <summary>Bounce: the pages that stand in; none when none does.</summary>
    internal BounceHold Bounce;

    /// <summary>Bounce: the adapter's place in the pool's queue, for the first of its waiting requests.</summary>
    internal BounceTicket? Ticket;
}

/// <summary>What a mapping takes up on the bus.</summary>
/// <param name="Pages">Every page that was opened.</param>
/// <param name="GuardLast">The last byte that belongs to nobody else: pages up to it are closed and never mapped for
/// others meanwhile.</param>
internal readonly record struct Footprint(LogicalRange Pages, LogicalAddress GuardLast);
