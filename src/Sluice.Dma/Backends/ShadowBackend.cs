using System.Numerics;
using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// Transfers go through slots that stay mapped: no table is written and no cache invalidated per request, and the
/// device never reaches a driver's page. The price is a copy each way, counted as bounced bytes.
/// </summary>
/// <remarks>
/// In a slot's pages, bytes outside the buffer are zero: the neighbours of a buffer that does not fill its pages stay
/// private. A slot for data from the device starts as a copy of the buffer, so that what a short transfer does not
/// write stays what it was. Of transfers longer than the largest slot the whole pages are mapped, and the others
/// stood in for (<see cref="IsolatingBackend"/>, below); common buffers are mapped. So are transfers longer than a threshold,
/// when there is one: below it a copy costs less than a mapping and its invalidation.
/// </remarks>
internal sealed class ShadowBackend(
    IDmaBackend direct, ShadowPool pool, IPlatform platform, uint longest = uint.MaxValue) : IDmaBackend
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;
    private long _bouncedBytes;

    // Without a threshold: the shadow policy.
    private bool IsWhole => longest == uint.MaxValue;

    /// <inheritdoc/>
    public string Name => IsWhole ? "shadow" : direct.Name;

    /// <inheritdoc/>
    public bool ReportsFaults => true;

    /// <inheritdoc/>
    public DmaCapabilities Capabilities => !IsWhole
        ? direct.Capabilities with { CopyThreshold = longest }
        : direct.Capabilities is { IsBlocked: false } open
        ? open with
        {
            Kind = DmaBackendKind.Shadow,
            Reason = "the device works in a pool behind a remapping unit and never reaches a driver's page, "
                + "except the whole pages of transfers longer than the pool's slots",
        }
        : direct.Capabilities with { Kind = DmaBackendKind.Shadow };

    /// <inheritdoc/>
    public long BouncedBytes => Volatile.Read(ref _bouncedBytes) + direct.BouncedBytes;

    /// <inheritdoc/>
    public BounceTicket? Ticket => direct.Ticket;

    /// <inheritdoc/>
    public DmaFailure TryMap(Mapping mapping, ref ElementBuilder list, out Footprint footprint,
        out PhysicalAddress culprit)
    {
        (footprint, culprit) = (default, default);
        Transfer transfer = mapping.Transfer;
        // The buffer keeps its offset in the first page: some devices only take whole pages after the first element.
        uint inPage = FirstInPage(transfer);
        int pages = (int)((inPage + (ulong)transfer.Length + PageSize - 1) >> PageLog2);
        BackendReservation? reservation = mapping.Backend.Reservation;
        if (transfer.Length > longest || pages > pool.LargestSlot || reservation is RemappingReservation)
        {
            return MapDirectly(mapping, ref list, out footprint, out culprit);
        }
        if (!CheckFrames(transfer, out culprit)) { return DmaFailure.NotABuffer; }
        DmaAccess access = transfer.Direction.ToAccess();
        ShadowSlot slot;
        if (reservation is ShadowReservation reserved) { slot = reserved[access]; }
        else if (!pool.TryRent(pages, access, out slot))
        {
            // A copy was only the cheaper way.
            return IsWhole
                ? DmaFailure.OutOfResources
                : direct.TryMap(mapping, ref list, out footprint, out culprit);
        }
        CopyIn(transfer, slot.Pages[..pages], inPage);
        mapping.Backend.Slot = slot;
        // Slots are powers of two of pages, all of them open, and the page behind is closed.
        ulong open = (ulong)BitOperations.RoundUpToPowerOf2((uint)slot.PageCount) << PageLog2;
        LogicalRange reach = LogicalRange.FromLength(slot.First, open);
        footprint = new(reach, reach.Last + PageSize);
        list.Add(slot.First + inPage, transfer.Length);
        list.Finish();
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public bool Unmap(Mapping mapping)
    {
        ShadowSlot slot = mapping.Backend.Slot;
        if (slot.PageCount == 0) { return direct.Unmap(mapping); }
        if (mapping.Transfer.Direction != DmaDirection.ToDevice)
        {
            CopyBack(mapping.Transfer, slot.Pages, (uint)mapping.Only.Address.OffsetIn(PageLog2));
        }
        if (mapping.Backend.Reservation is null) { pool.Return(slot); }
        return true;
    }

    /// <inheritdoc/>
    public bool CouldEver(in Transfer transfer, ReadOnlySpan<BackendReservation> setAside)
    {
        int pages = (int)((FirstInPage(transfer) + (ulong)transfer.Length + PageSize - 1) >> PageLog2);
        return IsWhole && pages <= pool.LargestSlot
            ? pool.CouldEver(pages, 1, PagesOf(setAside)) : direct.CouldEver(transfer, setAside);
    }

    /// <inheritdoc/>
    public void Abandon(Mapping mapping)
    {
        ref BackendState state = ref mapping.Backend;
        if (state.Reservation is ShadowReservation slots) { Lose(slots); }
        else if (state.Slot.PageCount != 0) { pool.Lose(state.Slot); }
        direct.Abandon(mapping);
    }

    /// <inheritdoc/>
    public void Reclaim(Mapping mapping)
    {
        ref BackendState state = ref mapping.Backend;
        if (state.Reservation is ShadowReservation slots) { ReturnSlots(slots); }
        else if (state.Slot.PageCount != 0) { pool.Return(state.Slot); }
        direct.Reclaim(mapping);
    }

    /// <inheritdoc/>
    public DmaFailure TryReserve(int pages, out BackendReservation? reservation) =>
        TryReserve(pages, inTurn: false, out reservation);

    /// <inheritdoc/>
    public DmaFailure TryReserveInTurn(int pages, out BackendReservation? reservation) =>
        TryReserve(pages, inTurn: true, out reservation);

    /// <inheritdoc/>
    public int MostRegisters => Math.Max(
        direct.MostRegisters, HasSlotsFor(pool.LargestSlot, default) ? pool.LargestSlot : 0);

    /// <inheritdoc/>
    public bool CouldEverReserve(int pages, ReadOnlySpan<BackendReservation> setAside) =>
        HasSlotsFor(pages, setAside) || direct.CouldEverReserve(pages, setAside);

    private DmaFailure TryReserve(int pages, bool inTurn, out BackendReservation? reservation)
    {
        reservation = null;
        // Whoever reserves pays once, and may come with any length.
        if (!HasSlotsFor(pages, default))
        {
            DmaFailure failure = ReserveDirectly(pages, inTurn, out reservation);
            return failure == DmaFailure.OutOfResources && pool.TryShrink()
                ? ReserveDirectly(pages, inTurn, out reservation) : failure;
        }
        if (!pool.TryRent(pages, DmaAccess.Read, out ShadowSlot read)) { return DmaFailure.OutOfResources; }
        if (!pool.TryRent(pages, DmaAccess.Write, out ShadowSlot write))
        {
            pool.Return(read);
            return DmaFailure.OutOfResources;
        }
        if (!pool.TryRent(pages, DmaAccess.ReadWrite, out ShadowSlot both))
        {
            pool.Return(read);
            pool.Return(write);
            return DmaFailure.OutOfResources;
        }
        reservation = new ShadowReservation(read, write, both);
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public void Unreserve(BackendReservation reservation)
    {
        if (reservation is not ShadowReservation slots)
        {
            direct.Unreserve(reservation);
            return;
        }
        ReturnSlots(slots);
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
    public void Flush() => direct.Flush();

    /// <inheritdoc/>
    public void Revoke() => direct.Revoke();

    /// <inheritdoc/>
    public void Close(bool leaked) => direct.Close(leaked);

    /// <inheritdoc/>
    public void Release() => direct.Release();

    /// <inheritdoc/>
    public DmaDomain? Place => direct.Place;

    /// <inheritdoc/>
    public DmaDomain? Home => direct.Home;

    /// <inheritdoc/>
    public void Move(DmaDomain to)
    {
        direct.Move(to);
        pool = to.Pool!;
    }

    /// <inheritdoc/>
    public bool Forget(Mapping mapping)
    {
        // The driver's own pages were never within reach. The slot stays mapped, as every slot does, and is nobody's
        // until Reclaim returns it.
        bool slot = mapping.Transfer.Mdl is not null && mapping.Backend.Slot.PageCount != 0;
        return slot || direct.Forget(mapping);
    }

    // Idle slots keep addresses that a long transfer may lack, and nobody gives those back.
    private DmaFailure MapDirectly(Mapping mapping, ref ElementBuilder list, out Footprint footprint,
        out PhysicalAddress culprit)
    {
        DmaFailure failure = direct.TryMap(mapping, ref list, out footprint, out culprit);
        return failure == DmaFailure.OutOfResources && mapping.Backend.Reservation is null && pool.TryShrink()
            ? direct.TryMap(mapping, ref list, out footprint, out culprit) : failure;
    }

    private DmaFailure ReserveDirectly(int pages, bool inTurn, out BackendReservation? reservation) =>
        inTurn ? direct.TryReserveInTurn(pages, out reservation) : direct.TryReserve(pages, out reservation);

    // A slot for each right.
    private bool HasSlotsFor(int pages, ReadOnlySpan<BackendReservation> setAside) =>
        IsWhole && pages <= pool.LargestSlot && pool.CouldEver(pages, 3, PagesOf(setAside));

    private static int PagesOf(ReadOnlySpan<BackendReservation> setAside)
    {
        int pages = 0;
        foreach (BackendReservation reservation in setAside)
        {
            if (reservation is ShadowReservation slots) { pages += slots.Pages; }
        }
        return pages;
    }

    private void Lose(ShadowReservation slots)
    {
        pool.Lose(slots[DmaAccess.Read]);
        pool.Lose(slots[DmaAccess.Write]);
        pool.Lose(slots[DmaAccess.ReadWrite]);
    }

    private void ReturnSlots(ShadowReservation slots)
    {
        pool.Return(slots[DmaAccess.Read]);
        pool.Return(slots[DmaAccess.Write]);
        pool.Return(slots[DmaAccess.ReadWrite]);
    }

    // Where in its page the first byte lies, in whichever part of a chain that is.
    private static uint FirstInPage(in Transfer transfer)
    {
        Mdl mdl = transfer.Mdl!;
        if (transfer.Offset < mdl.ByteCount) { return ((uint)mdl.ByteOffset + transfer.Offset) & (PageSize - 1); }
        new PageCursor(transfer).Next(out _, out uint inPage, out _);
        return inPage;
    }

    // The pool's own frames are all the device will reach, but a driver that hands in a kernel page must not read or
    // write it either.
    private bool CheckFrames(in Transfer transfer, out PhysicalAddress culprit)
    {
        culprit = default;
        MdlCursor cursor = new(transfer.Mdl!, transfer.Offset, transfer.Length);
        while (cursor.NextPiece(out Mdl part, out uint offset, out uint length))
        {
            ulong start = (ulong)part.ByteOffset + offset;
            int last = (int)((start + length - 1) >> PageLog2);
            for (int i = (int)(start >> PageLog2); i <= last; i++)
            {
                culprit = part.Pages[i];
                if (platform.Frames.KindOf(culprit) != FrameKind.Buffer) { return false; }
            }
        }
        return true;
    }

    private void CopyIn(in Transfer transfer, ReadOnlySpan<PhysicalAddress> pages, uint inPage)
    {
        uint done = 0;
        foreach (PhysicalAddress page in pages)
        {
            Span<byte> bytes = SpanOf(page);
            uint here = Math.Min(PageSize - inPage, transfer.Length - done);
            bytes[..(int)inPage].Clear();
            transfer.Mdl!.Peek((ulong)transfer.Offset + done, bytes.Slice((int)inPage, (int)here));
            bytes[(int)(inPage + here)..].Clear();
            (done, inPage) = (done + here, 0);
        }
        if (transfer.Direction != DmaDirection.FromDevice) { Interlocked.Add(ref _bouncedBytes, transfer.Length); }
    }

    private void CopyBack(in Transfer transfer, ReadOnlySpan<PhysicalAddress> pages, uint inPage)
    {
        uint done = 0;
        foreach (PhysicalAddress page in pages)
        {
            uint here = Math.Min(PageSize - inPage, transfer.Length - done);
            transfer.Mdl!.Poke((ulong)transfer.Offset + done, SpanOf(page).Slice((int)inPage, (int)here));
            (done, inPage) = (done + here, 0);
        }
        Interlocked.Add(ref _bouncedBytes, transfer.Length);
    }

    private Span<byte> SpanOf(PhysicalAddress page) =>
        platform.Memory.TryGetSpan(page, (int)PageSize, out Span<byte> bytes)
        ? bytes
        : throw new InvalidOperationException($"the shadow page at {page} is not writable memory");
}
