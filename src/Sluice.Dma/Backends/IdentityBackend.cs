namespace Sluice.Dma;

/// <summary>
/// No remapping unit: a logical address is a physical address. Nothing protects memory, nothing moves a buffer; pages
/// that the device cannot drive are refused, as are pages that are no buffer.
/// </summary>
internal sealed class IdentityBackend(IPlatform platform, DeviceDescription device) : IDmaBackend
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;

    /// <inheritdoc/>
    public string Name => "identity";

    /// <inheritdoc/>
    public bool ReportsFaults => false;

    /// <inheritdoc/>
    public long BouncedBytes => 0;

    /// <inheritdoc/>
    public DmaFailure TryMap(Mapping mapping, ref ElementBuilder list, out LogicalRange reach, out PhysicalAddress culprit)
    {
        IFrameAllocator frames = platform.Frames;
        ulong last = device.LastAddress.Value;
        (ulong lowest, ulong highest) = (ulong.MaxValue, 0);
        (reach, culprit) = (default, default);
        Transfer transfer = mapping.Transfer;
        for (MdlCursor cursor = new(transfer.Mdl!, transfer.Offset, transfer.Length); cursor.NextPiece(out Mdl part, out uint offset, out uint length);)
        {
            ulong position = (ulong)part.ByteOffset + offset;
            ReadOnlySpan<PhysicalAddress> pages = part.Pages;
            while (length > 0)
            {
                culprit = pages[(int)(position >> PageLog2)];
                uint inPage = (uint)position & (PageSize - 1);
                uint here = Math.Min(PageSize - inPage, length);
                if (culprit.Value + inPage + (here - 1) > last) { return DmaFailure.Unreachable; }
                if (frames.KindOf(culprit) != FrameKind.Buffer) { return DmaFailure.NotABuffer; }
                list.Add(new(culprit.Value + inPage), here);
                (lowest, highest) = (Math.Min(lowest, culprit.Value), Math.Max(highest, culprit.Value));
                (position, length) = (position + here, length - here);
            }
        }
        list.Finish();
        reach = new(new(lowest), new(highest + (PageSize - 1)));
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public void Unmap(Mapping mapping)
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
        memory = new(new(first.Value), pages, sizeLog2);
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public void FreeCommon(in CommonMemory memory) => platform.Frames.Free(memory.Pages[0], memory.RunLog2);

    /// <inheritdoc/>
    public void Close(bool leaked)
    {
    }

    /// <inheritdoc/>
    public void Release()
    {
    }
}
