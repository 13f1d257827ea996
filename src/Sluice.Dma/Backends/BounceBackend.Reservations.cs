namespace Sluice.Dma;

internal sealed partial class BounceBackend
{
    /// <inheritdoc/>
    public int MostRegisters => device.ScatterGather ? pool.Pages.AtMost : pool.LongestRun;

    /// <inheritdoc/>
    public DmaFailure TryReserve(int pages, out BackendReservation? reservation) =>
        TryReserve(pages, null, out reservation);

    /// <inheritdoc/>
    public DmaFailure TryReserveInTurn(int pages, out BackendReservation? reservation) =>
        TryReserve(pages, Ticket, out reservation);

    /// <inheritdoc/>
    public bool CouldEverReserve(int pages, ReadOnlySpan<BackendReservation> setAside) =>
        pool.CouldHold(NeedOf(pages), setAside);

    /// <inheritdoc/>
    public void Unreserve(BackendReservation reservation) => pool.Give(reservation.TakeHold());

    private DmaFailure TryReserve(int pages, BounceTicket? ticket, out BackendReservation? reservation)
    {
        reservation = null;
        if (!pool.TryTake(NeedOf(pages), ticket, out BounceHold hold)) { return DmaFailure.OutOfResources; }
        reservation = new BounceReservation(hold);
        return DmaFailure.None;
    }

    // For any transfer of so many pages. A run begins where the longest data that fits between two boundaries does.
    private BounceNeed NeedOf(int pages)
    {
        if (device.ScatterGather) { return new(pages); }
        ulong length = (ulong)pages << PageLog2;
        if (device.BoundaryLog2 < 64) { length = Math.Min(length, 1UL << device.BoundaryLog2); }
        return new(pages, Run: true, 0, (uint)Math.Min(length, uint.MaxValue), device.BoundaryLog2);
    }
}
