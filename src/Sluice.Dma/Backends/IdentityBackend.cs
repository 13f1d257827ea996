namespace Sluice.Dma;

/// <summary>
/// No remapping unit: a logical address is a physical address. Nothing protects memory, nothing moves a buffer; pages
/// that the device cannot drive are refused, as are pages that are no buffer.
/// </summary>
internal sealed class IdentityBackend(IPlatform platform, DeviceDescription device, string reason) : IDmaBackend
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;

    // No allocator has longer runs: a power of two beyond it is not worth asking for.
    private const int LargestRunLog2 = 30;

    /// <inheritdoc/>
    public string Name => "identity";

    /// <inheritdoc/>
    public bool ReportsFaults => false;

    /// <inheritdoc/>
    public DmaCapabilities Capabilities => new()
    {
        Kind = DmaBackendKind.Identity,
        Reason = reason,
        AddressBits = device.AddressBits,
    };

    /// <inheritdoc/>
    public long BouncedBytes => 0;

    /// <inheritdoc/>
    public DmaFailure TryMap(Mapping mapping, ref ElementBuilder list, out Footprint footprint,
        out PhysicalAddress culprit)
    {
        IFrameAllocator frames = platform.Frames;
        ulong limit = device.LastAddress.Value;
        (ulong lowest, ulong highest) = (ulong.MaxValue, 0);
        (footprint, culprit) = (default, default);
        Transfer transfer = mapping.Transfer;
        MdlCursor cursor = new(transfer.Mdl!, transfer.Offset, transfer.Length);
        while (cursor.NextPiece(out Mdl part, out uint offset, out uint length))
        {
            ulong position = (ulong)part.ByteOffset + offset;
            ReadOnlySpan<PhysicalAddress> pages = part.Pages;
            while (length > 0)
            {
                culprit = pages[(int)(position >> PageLog2)];
                uint inPage = (uint)position & (PageSize - 1);
                uint here = Math.Min(PageSize - inPage, length);
                if (culprit.Value + inPage + (here - 1) > limit) { return DmaFailure.Unreachable; }
                if (frames.KindOf(culprit) != FrameKind.Buffer) { return DmaFailure.NotABuffer; }
                list.Add(new(culprit.Value + inPage), here);
                (lowest, highest) = (Math.Min(lowest, culprit.Value), Math.Max(highest, culprit.Value));
                (position, length) = (position + here, length - here);
            }
        }
        list.Finish();
        LogicalAddress last = new(highest + (PageSize - 1));
        footprint = new(new(new(lowest), last), last);
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public bool Unmap(Mapping mapping) => true;

    // Nothing joins pages that do not follow each other.
    /// <inheritdoc/>
    public int MostRegisters => device.ScatterGather ? int.MaxValue : 1;

    /// <inheritdoc/>
    public DmaFailure TryReserve(int pages, out BackendReservation? reservation)
    {
        reservation = new();
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public void Unreserve(BackendReservation reservation)
    {
    }

    /// <inheritdoc/>
    public DmaFailure TryAllocateCommon(in CommonRequest request, out CommonMemory memory)
    {
        memory = default;
        IFrameAllocator frames = platform.Frames;
        int sizeLog2 = Math.Max(PageLog2, request.AlignmentLog2);
        while (1UL << sizeLog2 < request.Length) { sizeLog2++; }
        PhysicalRange bounds = new(new(request.Bounds.First.Value), new(request.Bounds.Last.Value));
        if (sizeLog2 > LargestRunLog2) { return DmaFailure.OutOfResources; }
        bool found = bounds.First.Value == 0
            ? frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress first, bounds.Last)
            : frames.TryAllocateWithin(FrameKind.Buffer, sizeLog2, bounds, out first);
        if (!found) { return DmaFailure.OutOfResources; }
        // Runs come in powers of two; what is too much goes back.
        var pages = new PhysicalAddress[request.Pages];
        for (int i = 0; i < pages.Length; i++) { pages[i] = first + ((ulong)i << PageLog2); }
        for (ulong at = (ulong)pages.Length << PageLog2; at < 1UL << sizeLog2; at += PageSize)
        {
            frames.Free(first + at, PageLog2);
        }
        memory = MemoryOf(request, pages, borrowed: false);
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public DmaFailure TryMapCommon(in CommonRequest request, PhysicalAddress[] pages, out CommonMemory memory,
        out PhysicalAddress culprit)
    {
        (memory, culprit) = (default, pages[0]);
        if (request.Access != DmaAccess.ReadWrite) { return DmaFailure.NotSupported; }
        if (!pages[0].IsAligned(request.AlignmentLog2)) { return DmaFailure.Unreachable; }
        for (int i = 0; i < pages.Length; i++)
        {
            culprit = pages[i];
            if (platform.Frames.KindOf(culprit) != FrameKind.Buffer) { return DmaFailure.NotABuffer; }
            if (culprit.Value < request.Bounds.First.Value
                || culprit.Value + (PageSize - 1) > request.Bounds.Last.Value)
            {
                return DmaFailure.Unreachable;
            }
            if (culprit != pages[0] + ((ulong)i << PageLog2)) { return DmaFailure.TooFragmented; }
        }
        memory = MemoryOf(request, pages, borrowed: true);
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public bool FreeCommon(in CommonMemory memory)
    {
        if (!memory.Borrowed) { FrameList.Free(platform.Frames, memory.Pages); }
        return true;
    }

    private static CommonMemory MemoryOf(in CommonRequest request, PhysicalAddress[] pages, bool borrowed)
    {
        LogicalRange range = LogicalRange.FromLength(new(pages[0].Value), (ulong)pages.Length << PageLog2);
        return new(range.First, request.Length, pages, new(range, range.Last), borrowed);
    }

    /// <inheritdoc/>
    public void Revoke()
    {
    }

    /// <inheritdoc/>
    public void Close(bool leaked)
    {
    }

    /// <inheritdoc/>
    public void Release()
    {
    }
}
