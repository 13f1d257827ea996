namespace Sluice.Dma;

/// <summary>
/// No remapping unit: a logical address is a physical address. Nothing protects memory, nothing moves a buffer; pages
/// that the device cannot drive are refused, as are pages that are no buffer.
/// </summary>
internal sealed class IdentityBackend(IPlatform platform, DeviceDescription device, string reason) : IDmaBackend
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;

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
    public DmaFailure TryAllocateCommon(uint length, DmaAccess access, LogicalAddress limit, out CommonMemory memory)
    {
        int sizeLog2 = PageLog2;
        while (1UL << sizeLog2 < length) { sizeLog2++; }
        memory = default;
        if (!platform.Frames.TryAllocate(FrameKind.Buffer, sizeLog2, out PhysicalAddress first, limit.Value))
        {
            return DmaFailure.OutOfResources;
        }
        var pages = new PhysicalAddress[1 << (sizeLog2 - PageLog2)];
        for (int i = 0; i < pages.Length; i++) { pages[i] = first + ((ulong)i << PageLog2); }
        LogicalRange range = LogicalRange.FromLength(new(first.Value), 1UL << sizeLog2);
        memory = new(range.First, pages, sizeLog2, new(range, range.Last));
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public bool FreeCommon(in CommonMemory memory)
    {
        platform.Frames.Free(memory.Pages[0], memory.RunLog2);
        return true;
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
