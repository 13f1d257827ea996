using System.Buffers;
using System.Numerics;
using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// A domain of a remapping unit for the device alone: a transfer's pages, wherever they lie, become one logical run
/// that the device can drive, with exactly the right of its direction. When that right ends is the domain's policy.
/// </summary>
/// <remarks>
/// Protection is by whole pages: where a buffer does not fill its first or last page, the device reaches the rest of
/// it. For devices that are not trusted with that, <see cref="IsolatingBackend"/> stands above.
/// </remarks>
internal sealed partial class RemappingBackend(
    RemappingSystem system, Domain domain, IPlatform platform, PciAddress address,
    DeviceDescription device) : IDmaBackend
{
    private const int PageLog2 = 12;
    private const uint PageSize = 1 << PageLog2;
    private const int LargeLog2 = 21;
    private const int HugeLog2 = 30;

    /// <inheritdoc/>
    public string Name => "remapping";

    /// <inheritdoc/>
    public bool ReportsFaults => true;

    /// <inheritdoc/>
    public DmaCapabilities Capabilities => new()
    {
        Kind = DmaBackendKind.Remapping,
        Policy = domain.Options.Policy,
        Reason = domain.IsDead
            ? $"the remapping unit of {domain} no longer answers"
            : domain.Options.Policy == InvalidationPolicy.Deferred
            ? $"{domain} is behind a remapping unit, and what is put goes out of reach at the next flush"
            : $"{domain} is behind a remapping unit, and what is put is out of reach when put returns",
        IsBlocked = domain.IsDead,
        EnforcesRights = true,
        ReportsFaults = true,
        Coalesces = true,
        AddressBits = Math.Min(device.AddressBits, BitOperations.Log2(domain.Last.Value) + 1),
    };

    /// <inheritdoc/>
    public long BouncedBytes => 0;

    /// <inheritdoc/>
    public void Flush() => domain.FlushNow();

    /// <summary>Whether nothing is mapped any more: its unit no longer answers.</summary>
    internal bool IsDead => domain.IsDead;

    /// <inheritdoc/>
    public DmaFailure TryMap(Mapping mapping, ref ElementBuilder list, out Footprint footprint,
        out PhysicalAddress culprit)
    {
        ref readonly Transfer transfer = ref mapping.Transfer;
        Mdl mdl = transfer.Mdl!;
        if (transfer.Offset + (ulong)transfer.Length > mdl.ByteCount)
        {
            return TryMapChain(mapping, ref list, out footprint, out culprit);
        }
        ReadOnlySpan<PhysicalAddress> pages = PagesOf(mdl, transfer.Offset, transfer.Length, out uint inPage);
        DmaFailure failure = TryMapPages(mapping, pages, out footprint, out culprit);
        if (failure != DmaFailure.None) { return failure; }
        list.Add(footprint.Pages.First + inPage, transfer.Length);
        list.Finish();
        return DmaFailure.None;
    }

    /// <inheritdoc/>
    public bool Unmap(Mapping mapping)
    {
        if (mapping.Backend.Reservation is RemappingReservation reservation) { return UnmapReserved(reservation); }
        ref readonly Transfer transfer = ref mapping.Transfer;
        // The domain finds the pages of a chain, and those that stand in for others, in its tables.
        bool find = transfer.Offset + (ulong)transfer.Length > transfer.Mdl!.ByteCount
            || mapping.Backend.Bounce.Pages > 0;
        ReadOnlySpan<PhysicalAddress> pages = find ? default
            : PagesOf(transfer.Mdl, transfer.Offset, transfer.Length, out _);
        if (pages.Length > 1 && domain.IsDeferred)
        {
            int first = (int)(((ulong)transfer.Mdl.ByteOffset + transfer.Offset) >> PageLog2);
            return domain.UnmapLasting(
                mapping.Backend.Mapping, transfer.Mdl.LastingPages.Slice(first, pages.Length))
                != UnmapStatus.Quarantined;
        }
        return domain.Unmap(mapping.Backend.Mapping, pages) != UnmapStatus.Quarantined;
    }

    private DmaFailure TryMapChain(Mapping mapping, ref ElementBuilder list, out Footprint footprint,
        out PhysicalAddress culprit)
    {
        Transfer transfer = mapping.Transfer;
        var reservation = mapping.Backend.Reservation as RemappingReservation;
        PhysicalAddress[] pages = reservation?.Scratch
            ?? ArrayPool<PhysicalAddress>.Shared.Rent(mapping.Backend.MapRegisters);
        int count = 0;
        MdlCursor cursor = new(transfer.Mdl!, transfer.Offset, transfer.Length);
        while (cursor.NextPiece(out Mdl part, out uint offset, out uint length))
        {
            ReadOnlySpan<PhysicalAddress> piece = PagesOf(part, offset, length, out _);
            piece.CopyTo(pages.AsSpan(count));
            count += piece.Length;
        }
        DmaFailure failure = TryMapPages(mapping, pages.AsSpan(0, count), out footprint, out culprit);
        if (reservation is null) { ArrayPool<PhysicalAddress>.Shared.Return(pages); }
        if (failure != DmaFailure.None) { return failure; }

        // Logical pages follow each other, so parts that meet at a page boundary join without a seam.
        LogicalAddress page = footprint.Pages.First;
        cursor = new(transfer.Mdl!, transfer.Offset, transfer.Length);
        while (cursor.NextPiece(out Mdl part, out uint offset, out uint length))
        {
            int spanned = PagesOf(part, offset, length, out uint inPage).Length;
            list.Add(page + inPage, length);
            page += (ulong)spanned << PageLog2;
        }
        list.Finish();
        return DmaFailure.None;
    }

    internal DmaFailure TryMapPages(
        Mapping mapping, ReadOnlySpan<PhysicalAddress> pages, out Footprint footprint, out PhysicalAddress culprit)
    {
        (footprint, culprit) = (default, default);
        if (mapping.Backend.Reservation is RemappingReservation reservation)
        {
            return TryMapReserved(reservation, mapping, pages, out footprint, out culprit);
        }
        MapStatus status = domain.TryMap(pages, mapping.Transfer.Direction.ToAccess(), device.LastAddress,
            out mapping.Backend.Mapping);
        if (status == MapStatus.Mapped)
        {
            footprint = FootprintOf(mapping.Backend.Mapping);
            return DmaFailure.None;
        }
        if (status == MapStatus.Refused) { culprit = FirstThatIsNoBuffer(pages); }
        return Meaning(status);
    }

    private PhysicalAddress FirstThatIsNoBuffer(ReadOnlySpan<PhysicalAddress> pages)
    {
        foreach (PhysicalAddress page in pages)
        {
            if (platform.Frames.KindOf(page) != FrameKind.Buffer) { return page; }
        }
        return pages[0];
    }

    private static ReadOnlySpan<PhysicalAddress> PagesOf(Mdl part, uint offset, uint length, out uint inPage)
    {
        ulong start = (ulong)part.ByteOffset + offset;
        inPage = (uint)start & (PageSize - 1);
        int first = (int)(start >> PageLog2);
        return part.Pages.Slice(first, (int)((start + length - 1) >> PageLog2) - first + 1);
    }

    private static Footprint FootprintOf(in DomainMapping mapping) =>
        new(mapping.Range, mapping.First + ((1UL << mapping.SlotLog2 << PageLog2) - 1));

    private static DmaFailure Meaning(MapStatus status) => status switch
    {
        MapStatus.Mapped => DmaFailure.None,
        MapStatus.Refused => DmaFailure.NotABuffer,
        MapStatus.Dead => DmaFailure.Dead,
        _ => DmaFailure.OutOfResources,
    };
}
