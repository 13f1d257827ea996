using System.Buffers;
using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// Remapping for a device that is not trusted with the rest of a page: where a transfer fills a page, the device gets
/// the page; where it does not, a page of a pool stands in, zero outside the transfer, and data is copied. Still one
/// logical run.
/// </summary>
/// <remarks>
/// Its domain is strict whatever was asked for: a pool's page goes to the next device right after the put. Data from
/// the device is copied when the device can no longer change it.
/// </remarks>
internal sealed class IsolatingBackend(
    RemappingBackend direct, BouncePool pool, IPlatform platform, bool trusted = false) : IDmaBackend
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;
    private long _bouncedBytes;

    /// <inheritdoc/>
    public string Name => direct.Name;

    /// <inheritdoc/>
    public bool ReportsFaults => true;

    /// <inheritdoc/>
    public DmaCapabilities Capabilities => direct.Capabilities is { IsBlocked: false } open
        ? open with
        {
            SubPageIsolation = uint.MaxValue,
            Reason = open.Reason
                + (trusted ? "; " : "; it is not trusted with the rest of a page and ") + "never sees it",
        }
        : direct.Capabilities;

    /// <inheritdoc/>
    public long BouncedBytes => Volatile.Read(ref _bouncedBytes);

    /// <inheritdoc/>
    public BounceTicket? Ticket { get; } = new(pool);

    /// <inheritdoc/>
    public DmaFailure TryMap(Mapping mapping, ref ElementBuilder list, out Footprint footprint,
        out PhysicalAddress culprit)
    {
        footprint = default;
        Transfer transfer = mapping.Transfer;
        DmaFailure failure = Plan(transfer, out int fragments, out culprit);
        if (failure != DmaFailure.None) { return failure; }
        if (fragments == 0) { return direct.TryMap(mapping, ref list, out footprint, out culprit); }
        // Before pages are taken: those of a map that ends so below are never given back.
        if (direct.IsDead) { return DmaFailure.Dead; }
        var reservation = mapping.Backend.Reservation as RemappingReservation;
        BounceHold hold = reservation is null ? default : reservation.Hold;
        if (reservation is null && !pool.TryTake(new(fragments), mapping.Backend.Ticket, out hold))
        {
            return DmaFailure.OutOfResources;
        }

        PhysicalAddress[] pages = reservation?.Scratch
            ?? ArrayPool<PhysicalAddress>.Shared.Rent(mapping.Backend.MapRegisters);
        int count = Fill(transfer, hold, pages);
        failure = direct.TryMapPages(mapping, pages.AsSpan(0, count), out footprint, out culprit);
        if (reservation is null) { ArrayPool<PhysicalAddress>.Shared.Return(pages); }
        if (failure != DmaFailure.None)
        {
            if (failure == DmaFailure.Dead) { pool.Quarantine(reservation?.TakeHold() ?? hold); }
            else if (reservation is null) { GiveAndWake(hold); }
            return failure;
        }
        mapping.Backend.Bounce = hold;
        LogicalAddress page = footprint.Pages.First;
        for (PageCursor cursor = new(transfer); cursor.Next(out _, out uint inPage, out uint length); page += PageSize)
        {
            list.Add(page + inPage, length);
        }
        list.Finish();
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public bool Unmap(Mapping mapping)
    {
        if (!direct.Unmap(mapping)) { return false; }
        ref readonly BounceHold hold = ref mapping.Backend.Bounce;
        if (hold.Pages == 0) { return true; }
        if (mapping.Transfer.Direction != DmaDirection.ToDevice) { CopyBack(mapping.Transfer, hold); }
        if (mapping.Backend.Reservation is null) { pool.Give(hold); }
        return true;
    }

    /// <inheritdoc/>
    public bool CouldEver(in Transfer transfer, ReadOnlySpan<BackendReservation> setAside) =>
        Plan(transfer, out int fragments, out _) == DmaFailure.None && pool.CouldEver(new(fragments), setAside)
        && direct.CouldEver(transfer, setAside);

    /// <inheritdoc/>
    public void Abandon(Mapping mapping) => pool.Quarantine(mapping);

    /// <inheritdoc/>
    public void Reclaim(Mapping mapping) => pool.Release(mapping);

    /// <inheritdoc/>
    public DmaFailure TryReserve(int pages, out BackendReservation? reservation) =>
        TryReserve(pages, null, out reservation);

    /// <inheritdoc/>
    public DmaFailure TryReserveInTurn(int pages, out BackendReservation? reservation) =>
        TryReserve(pages, Ticket, out reservation);

    /// <inheritdoc/>
    public int MostRegisters => Math.Min(direct.MostRegisters, pool.Pages.AtMost);

    /// <inheritdoc/>
    public bool CouldEverReserve(int pages, ReadOnlySpan<BackendReservation> setAside) =>
        direct.CouldEverReserve(pages, setAside) && pool.CouldHold(new(pages), setAside);

    /// <inheritdoc/>
    public void Unreserve(BackendReservation reservation)
    {
        pool.Give(reservation.TakeHold());
        direct.Unreserve(reservation);
    }

    /// <inheritdoc/>
    public DmaFailure TryAllocateCommon(in CommonRequest request, out CommonMemory memory) =>
        direct.TryAllocateCommon(request, out memory);

    /// <inheritdoc/>
    public DmaFailure TryMapCommon(in CommonRequest request, PhysicalAddress[] pages, out CommonMemory memory,
        out PhysicalAddress culprit) => direct.TryMapCommon(request, pages, out memory, out culprit);

    /// <inheritdoc/>
    public bool FreeCommon(in CommonMemory memory) => direct.FreeCommon(memory);

    /// <inheritdoc/>
    public DmaDomain? Place => direct.Place;

    /// <inheritdoc/>
    public DmaDomain? Home => direct.Home;

    /// <inheritdoc/>
    public void Move(DmaDomain to) => direct.Move(to);

    /// <inheritdoc/>
    public void Flush() => direct.Flush();

    /// <inheritdoc/>
    public void Revoke() => direct.Revoke();

    /// <inheritdoc/>
    public bool Forget(Mapping mapping) => direct.Forget(mapping);

    /// <inheritdoc/>
    public void Close(bool leaked)
    {
        Ticket!.Withdraw();
        direct.Close(leaked);
    }

    /// <inheritdoc/>
    public void Release() => direct.Release();

    // How many pages the transfer does not fill. Those are not mapped, so nobody below looks at their frames.
    private DmaFailure Plan(in Transfer transfer, out int fragments, out PhysicalAddress culprit)
    {
        fragments = 0;
        for (PageCursor cursor = new(transfer); cursor.Next(out culprit, out _, out uint length);)
        {
            if (length == PageSize) { continue; }
            fragments++;
            if (platform.Frames.KindOf(culprit) != FrameKind.Buffer) { return DmaFailure.NotABuffer; }
        }
        culprit = default;
        return DmaFailure.None;
    }

    private int Fill(in Transfer transfer, in BounceHold hold, PhysicalAddress[] pages)
    {
        int count = 0;
        uint copied = 0;
        BouncePages bounce = new(hold);
        PageCursor cursor = new(transfer);
        while (cursor.Next(out PhysicalAddress page, out uint inPage, out uint length))
        {
            if (length != PageSize)
            {
                PhysicalAddress to = bounce.Next();
                BouncePage.Fill(platform.Memory, to, page, inPage, length);
                (page, copied) = (to, copied + length);
            }
            pages[count++] = page;
        }
        if (transfer.Direction != DmaDirection.FromDevice) { Interlocked.Add(ref _bouncedBytes, copied); }
        return count;
    }

    private void CopyBack(in Transfer transfer, in BounceHold hold)
    {
        uint copied = 0;
        BouncePages bounce = new(hold);
        PageCursor cursor = new(transfer);
        while (cursor.Next(out PhysicalAddress page, out uint inPage, out uint length))
        {
            if (length == PageSize) { continue; }
            BouncePage.CopyBack(platform.Memory, bounce.Next(), page, inPage, length);
            copied += length;
        }
        Interlocked.Add(ref _bouncedBytes, copied);
    }

    // Nothing came of it, so no put follows that would wake who waits.
    private void GiveAndWake(in BounceHold hold)
    {
        pool.Give(hold);
        Ticket!.Wake();
    }

    private DmaFailure TryReserve(int pages, BounceTicket? ticket, out BackendReservation? reservation)
    {
        reservation = null;
        if (direct.IsDead) { return DmaFailure.Dead; }
        if (!pool.TryTake(new(pages), ticket, out BounceHold hold)) { return DmaFailure.OutOfResources; }
        DmaFailure failure = direct.TryReserve(pages, out reservation);
        if (failure == DmaFailure.None) { reservation!.StandIns = hold; }
        else { GiveAndWake(hold); }
        return failure;
    }
}
