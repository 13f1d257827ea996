using System.Runtime.InteropServices;
using Sluice.Remapping;

namespace Sluice.Dma;

internal sealed partial class RemappingBackend
{
    /// <inheritdoc/>
    public DmaFailure TryReserve(int pages, out BackendReservation? reservation)
    {
        reservation = null;
        DmaFailure failure = Meaning(domain.TryReserve(pages, device.LastAddress, out DomainReservation? one));
        if (failure != DmaFailure.None) { return failure; }
        domain.TryReserve(pages, device.LastAddress, out DomainReservation? two);
        reservation = new RemappingReservation(one!, two, pages);
        return DmaFailure.None;
    }

    // One run of logical addresses for all of a transfer, whatever lies behind them.
    /// <inheritdoc/>
    public int MostRegisters => domain.Addresses.MostPages(device.LastAddress);

    /// <inheritdoc/>
    public bool CouldEver(in Transfer transfer, ReadOnlySpan<BackendReservation> setAside) =>
        CouldEverReserve(DmaAdapter.CountMapRegisters(transfer.Mdl!, transfer.Offset, transfer.Length), setAside);

    /// <inheritdoc/>
    public bool CouldEverReserve(int pages, ReadOnlySpan<BackendReservation> setAside)
    {
        if (setAside.IsEmpty) { return pages <= MostRegisters; }
        List<LogicalRange> kept = [];
        foreach (BackendReservation reservation in setAside) { reservation.AddAddresses(kept); }
        return pages <= domain.Addresses.MostPages(device.LastAddress, CollectionsMarshal.AsSpan(kept));
    }

    /// <inheritdoc/>
    public void Unreserve(BackendReservation reservation)
    {
        var ours = (RemappingReservation)reservation;
        domain.FreeReservation(ours.Next);
        if (ours.Other is { } other) { domain.FreeReservation(other); }
    }

    private DmaFailure TryMapReserved(RemappingReservation reservation, Mapping mapping,
        ReadOnlySpan<PhysicalAddress> pages, out Footprint footprint, out PhysicalAddress culprit)
    {
        (footprint, culprit) = (default, default);
        DomainReservation run = reservation.Next;
        MapStatus status = domain.TryMapReserved(
            run, 0, pages, mapping.Transfer.Direction.ToAccess(), out reservation.Mapping);
        if (status == MapStatus.Mapped)
        {
            // What was mapped need not be the buffer's own pages.
            pages.CopyTo(reservation.Scratch);
            reservation.TakeTurns();
            footprint = new(reservation.Mapping.Range, run.GuardLast);
            return DmaFailure.None;
        }
        if (status == MapStatus.Refused) { culprit = FirstThatIsNoBuffer(pages); }
        return Meaning(status);
    }

    private bool UnmapReserved(RemappingReservation reservation)
    {
        ReservedMapping mapping = reservation.Mapping;
        return domain.UnmapReserved(mapping, reservation.Scratch.AsSpan(0, mapping.Pages)) != UnmapStatus.Quarantined;
    }
}
