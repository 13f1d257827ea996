namespace Sluice.Dma;

/// <summary>
/// No remapping unit, and a device that cannot drive every address or is not trusted with every byte: pages of a
/// transfer that it may use are used, for the others a page of a pool stands in and data is copied.
/// </summary>
/// <remarks>
/// Data for the device is copied at map, data from it at unmap and not before. A bounce page begins as a copy of the
/// buffer, so that what a short transfer does not write stays what it was, and is zero outside the transfer, so that
/// nobody else's bytes are seen. Fragments keep their offset in the page: some devices take only whole pages after
/// the first element. A device that takes one element gets one: its own pages where they follow each other, else a run
/// of the pool for the whole transfer.
/// </remarks>
internal sealed partial class BounceBackend(
    IPlatform platform, DeviceDescription device, BouncePool pool, bool always, bool trusted, string reason)
    : IDmaBackend
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;
    private readonly IdentityBackend _direct = new(platform, device, reason);
    private readonly ulong _limit = device.LastAddress.Value;
    private long _bouncedBytes;

    /// <inheritdoc/>
    public string Name => "bounce";

    /// <inheritdoc/>
    public bool ReportsFaults => false;

    /// <inheritdoc/>
    public DmaCapabilities Capabilities => new()
    {
        Kind = DmaBackendKind.Bounce,
        Reason = reason,
        SubPageIsolation = always || !trusted ? uint.MaxValue : 0,
        Coalesces = !device.ScatterGather,
        AddressBits = device.AddressBits,
    };

    /// <inheritdoc/>
    public long BouncedBytes => Volatile.Read(ref _bouncedBytes);

    /// <inheritdoc/>
    public BounceTicket? Ticket { get; } = new(pool);

    /// <inheritdoc/>
    public DmaFailure TryMap(Mapping mapping, ref ElementBuilder list, out Footprint footprint,
        out PhysicalAddress culprit)
    {
        footprint = default;
        DmaFailure failure = Plan(mapping.Transfer, out BounceNeed need, out culprit);
        if (failure != DmaFailure.None) { return failure; }
        BounceHold hold = default;
        if (need.Pages > 0 && mapping.Backend.Reservation is BounceReservation reserved) { hold = reserved.Hold; }
        else if (need.Pages > 0 && !pool.TryTake(need, mapping.Backend.Ticket, out hold))
        {
            return DmaFailure.OutOfResources;
        }
        mapping.Backend.Bounce = hold;
        footprint = need.Run ? FillRun(mapping, need.InPage, ref list) : Fill(mapping, ref list);
        list.Finish();
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public bool Unmap(Mapping mapping)
    {
        ref readonly BounceHold hold = ref mapping.Backend.Bounce;
        if (hold.Pages == 0) { return true; }
        if (mapping.Transfer.Direction != DmaDirection.ToDevice)
        {
            if (device.ScatterGather) { CopyBack(mapping.Transfer, hold); }
            else { CopyRunBack(mapping.Transfer, new(mapping.Only.Address.Value)); }
        }
        if (mapping.Backend.Reservation is null) { pool.Give(hold); }
        return true;
    }

    /// <inheritdoc/>
    public bool CouldEver(in Transfer transfer, ReadOnlySpan<BackendReservation> setAside) =>
        Plan(transfer, out BounceNeed need, out _) == DmaFailure.None && pool.CouldEver(need, setAside);

    /// <inheritdoc/>
    public void Abandon(Mapping mapping) => pool.Quarantine(mapping);

    /// <inheritdoc/>
    public void Reclaim(Mapping mapping) => pool.Release(mapping);

    /// <inheritdoc/>
    public DmaFailure TryAllocateCommon(in CommonRequest request, out CommonMemory memory) =>
        _direct.TryAllocateCommon(request, out memory);

    /// <inheritdoc/>
    public DmaFailure TryMapCommon(in CommonRequest request, PhysicalAddress[] pages, out CommonMemory memory,
        out PhysicalAddress culprit) => _direct.TryMapCommon(request, pages, out memory, out culprit);

    /// <inheritdoc/>
    public bool FreeCommon(in CommonMemory memory) => _direct.FreeCommon(memory);

    /// <inheritdoc/>
    public void Revoke()
    {
    }

    /// <inheritdoc/>
    public void Close(bool leaked) => Ticket!.Withdraw();

    /// <inheritdoc/>
    public void Release()
    {
    }

    // What the transfer needs of the pool; no pages when the device may use the buffer as it lies.
    private DmaFailure Plan(in Transfer transfer, out BounceNeed need, out PhysicalAddress culprit)
    {
        IFrameAllocator frames = platform.Frames;
        (int bounced, bool joined) = (0, true);
        (ulong first, ulong next) = (0, 0);
        need = default;
        for (PageCursor cursor = new(transfer); cursor.Next(out culprit, out uint inPage, out uint length);)
        {
            if (frames.KindOf(culprit) != FrameKind.Buffer) { return DmaFailure.NotABuffer; }
            if (IsBounced(culprit, inPage, length)) { bounced++; }
            ulong here = culprit.Value + inPage;
            if (next == 0) { first = here; }
            else { joined &= here == next; }
            next = here + length;
        }
        culprit = default;
        need = new(bounced);
        if (device.ScatterGather) { return DmaFailure.None; }
        return bounced == 0 && joined && IsOneElement(first, transfer.Length)
            ? DmaFailure.None
            : PlanRun((uint)first & (PageSize - 1), transfer.Length, out need);
    }

    private DmaFailure PlanRun(uint inPage, uint length, out BounceNeed need)
    {
        need = default;
        if (!IsOneElement(0, length)) { return DmaFailure.TooFragmented; }
        // Where only a start on a boundary keeps the data between two of them, the offset in the page is given up.
        if (!IsOneElement(inPage, length)) { inPage = 0; }
        int pages = (int)((inPage + (ulong)length + PageSize - 1) >> PageLog2);
        need = new(pages, Run: true, inPage, length, device.BoundaryLog2);
        return DmaFailure.None;
    }

    private bool IsOneElement(ulong first, uint length) =>
        length <= device.MaximumSegment
        && (device.BoundaryLog2 >= 64 || first >> device.BoundaryLog2 == (first + (length - 1)) >> device.BoundaryLog2);

    private bool IsBounced(PhysicalAddress page, uint inPage, uint length) =>
        always || page.Value + inPage + (length - 1) > _limit || (!trusted && length != PageSize);

    private Footprint Fill(Mapping mapping, ref ElementBuilder list)
    {
        (ulong lowest, ulong highest) = (ulong.MaxValue, 0);
        uint copied = 0;
        BouncePages bounce = new(mapping.Backend.Bounce);
        PageCursor cursor = new(mapping.Transfer);
        while (cursor.Next(out PhysicalAddress page, out uint inPage, out uint length))
        {
            if (IsBounced(page, inPage, length))
            {
                PhysicalAddress to = bounce.Next();
                BouncePage.Fill(platform.Memory, to, page, inPage, length);
                (page, copied) = (to, copied + length);
            }
            list.Add(new(page.Value + inPage), length);
            (lowest, highest) = (Math.Min(lowest, page.Value), Math.Max(highest, page.Value));
        }
        Count(mapping, copied);
        LogicalAddress last = new(highest + (PageSize - 1));
        return new(new(new(lowest), last), last);
    }

    private Footprint FillRun(Mapping mapping, uint inPage, ref ElementBuilder list)
    {
        Transfer transfer = mapping.Transfer;
        BouncePages pages = new(mapping.Backend.Bounce);
        ulong size = (ulong)pages.Left << PageLog2;
        PhysicalAddress first = pages.Next();
        PhysicalAddress last = first + size - 1;
        PhysicalAddress to = first + inPage;
        SpanOf(first, inPage).Clear();
        for (PageCursor cursor = new(transfer); cursor.Next(out PhysicalAddress page, out uint at, out uint length);)
        {
            SpanOf(page + at, length).CopyTo(SpanOf(to, length));
            to += length;
        }
        SpanOf(to, (uint)(last - to) + 1).Clear();
        Count(mapping, transfer.Length);
        list.Add(new(first.Value + inPage), transfer.Length);
        return new(new(new(first.Value), new(last.Value)), new(last.Value));
    }

    private void CopyBack(in Transfer transfer, in BounceHold hold)
    {
        long copied = 0;
        BouncePages bounce = new(hold);
        PageCursor cursor = new(transfer);
        while (cursor.Next(out PhysicalAddress page, out uint inPage, out uint length))
        {
            if (!IsBounced(page, inPage, length)) { continue; }
            BouncePage.CopyBack(platform.Memory, bounce.Next(), page, inPage, length);
            copied += length;
        }
        Interlocked.Add(ref _bouncedBytes, copied);
    }

    private void CopyRunBack(in Transfer transfer, PhysicalAddress from)
    {
        for (PageCursor cursor = new(transfer); cursor.Next(out PhysicalAddress page, out uint at, out uint length);)
        {
            SpanOf(from, length).CopyTo(SpanOf(page + at, length));
            from += length;
        }
        Interlocked.Add(ref _bouncedBytes, transfer.Length);
    }

    // Bytes on their way to the device. What only keeps a short transfer from changing the rest is not counted.
    private void Count(Mapping mapping, uint copied)
    {
        if (copied != 0 && mapping.Transfer.Direction != DmaDirection.FromDevice)
        {
            Interlocked.Add(ref _bouncedBytes, copied);
        }
    }

    private Span<byte> SpanOf(PhysicalAddress first, uint length) =>
        BouncePage.SpanOf(platform.Memory, first, length);
}
