using System.Numerics;
using Sluice.Remapping;

namespace Sluice.Dma;

internal sealed partial class RemappingBackend
{
    /// <inheritdoc/>
    public DmaFailure TryAllocateCommon(in CommonRequest request, out CommonMemory memory)
    {
        memory = default;
        // Before anything is made for it: no machine has so many frames.
        if ((ulong)request.Pages << PageLog2 > BytesOfMemory) { return DmaFailure.OutOfResources; }
        ulong sizes = request.LargePages ? domain.PageSizes : 0;
        if (!FrameList.TryTake(platform.Frames, request.Pages, sizes, out PhysicalAddress[] pages))
        {
            return DmaFailure.OutOfResources;
        }
        DmaFailure failure = MapCommon(request, pages, borrowed: false, out memory);
        if (failure != DmaFailure.None) { FreeFrames(pages); }
        return failure;
    }

    /// <inheritdoc/>
    public DmaFailure TryMapCommon(in CommonRequest request, PhysicalAddress[] pages, out CommonMemory memory,
        out PhysicalAddress culprit)
    {
        DmaFailure failure = MapCommon(request, pages, borrowed: true, out memory);
        culprit = failure == DmaFailure.NotABuffer ? FirstThatIsNoBuffer(pages) : default;
        return failure;
    }

    /// <inheritdoc/>
    public bool FreeCommon(in CommonMemory memory)
    {
        UnmapStatus status = domain.UnmapRange(memory.Range, memory.Pages);
        if (status == UnmapStatus.Quarantined || domain.IsDead) { return false; }
        if (!memory.Borrowed) { FreeFrames(memory.Pages); }
        return true;
    }

    private ulong BytesOfMemory
    {
        get
        {
            ulong bytes = 0;
            foreach (MemoryBank bank in platform.Memory.Banks) { bytes += bank.Length; }
            return bytes;
        }
    }

    private DmaFailure MapCommon(in CommonRequest request, PhysicalAddress[] pages, bool borrowed,
        out CommonMemory memory)
    {
        memory = default;
        // Whoever else is in the domain must reach it too.
        LogicalRange bounds = request.Bounds;
        if (device.LastAddress < bounds.First) { return DmaFailure.OutOfResources; }
        if (device.LastAddress < bounds.Last) { bounds = bounds with { Last = device.LastAddress }; }
        // Leaves as large as the frames allow need addresses that lie as the frames do.
        int longest = LongestRunLog2(pages);
        int wanted = request.AlignmentLog2;
        if (longest >= LargeLog2) { wanted = Math.Max(wanted, longest >= HugeLog2 ? HugeLog2 : LargeLog2); }
        MapStatus status = domain.TryMapRange(
            pages, request.Access, bounds, wanted, out DomainRange range);
        if (status == MapStatus.NoLogicalSpace && wanted != request.AlignmentLog2)
        {
            status = domain.TryMapRange(
                pages, request.Access, bounds, request.AlignmentLog2, out range);
        }
        if (status != MapStatus.Mapped) { return Meaning(status); }
        Footprint footprint = new(range.Range, range.Space.Taken.Last);
        memory = new(range.Range.First, request.Length, pages, footprint, borrowed, range);
        return DmaFailure.None;
    }

    // From the first frame: runs are taken longest first, and others are not worth an alignment.
    private static int LongestRunLog2(PhysicalAddress[] pages)
    {
        int count = 1;
        while (count < pages.Length && pages[count] == pages[0] + ((ulong)count << PageLog2)) { count++; }
        int aligned = BitOperations.TrailingZeroCount(pages[0].Value);
        return Math.Min(aligned, PageLog2 + BitOperations.Log2((uint)count));
    }

    private void FreeFrames(PhysicalAddress[] pages)
    {
        // A unit that died while they were being unmapped: the domain has quarantined them.
        if (platform.Frames.KindOf(pages[0]) == FrameKind.Buffer) { FrameList.Free(platform.Frames, pages); }
    }
}
