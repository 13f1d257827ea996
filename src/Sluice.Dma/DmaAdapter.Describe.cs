using System.Runtime.InteropServices;

namespace Sluice.Dma;

public sealed partial class DmaAdapter
{
    /// <summary>
    /// The pages that a mapped transfer really uses: those of the buffer, or those of the copy that stands in for it.
    /// For a crash dump, or a debugger, that must see the data before the list is put.
    /// </summary>
    /// <param name="list">The list.</param>
    /// <returns>A chain that borrows the pages, to be disposed before the list is put. Never the buffer's own MDL,
    /// whose bytes are the device's meanwhile.</returns>
    /// <exception cref="InvalidOperationException">The list was put.</exception>
    public Mdl DescribeTransfer(in ScatterGatherLease list)
    {
        // Looks at the lease as every use does.
        _ = list.Count;
        Mapping mapping = list.Mapping!;
        Transfer transfer = mapping.Transfer;
        if (mapping.Backend.Slot.PageCount > 0)
        {
            int inPage = (int)list[0].Address.OffsetIn(PageLog2);
            int pages = (int)(((ulong)inPage + transfer.Length + (1 << PageLog2) - 1) >> PageLog2);
            return Mdl.Borrow(_platform, mapping.Backend.Slot.Pages[..pages], transfer.Length, inPage);
        }
        if (!_backend.ReportsFaults) { return DescribeElements(list); }
        return mapping.Backend.Bounce is { Pages: > 0 } hold ? DescribeStandIns(transfer, hold)
            : DescribePieces(transfer);
    }

    // Where nothing remaps, what the device is told is where the data is.
    private Mdl DescribeElements(in ScatterGatherLease list)
    {
        Mdl? first = null;
        Mdl? last = null;
        foreach (ScatterGatherElement element in list)
        {
            ulong start = element.Address.Value >> PageLog2;
            ulong final = (element.Address.Value + (element.Length - 1)) >> PageLog2;
            var pages = new PhysicalAddress[(int)(final - start) + 1];
            for (int i = 0; i < pages.Length; i++) { pages[i] = new((start + (uint)i) << PageLog2); }
            Append(ref first, ref last,
                Mdl.Borrow(_platform, pages, element.Length, (int)element.Address.OffsetIn(PageLog2)));
        }
        return first!;
    }

    // Where pages stand in for those that the transfer does not fill: as IsolatingBackend maps them.
    private Mdl DescribeStandIns(in Transfer transfer, in BounceHold hold)
    {
        Mdl? first = null;
        Mdl? last = null;
        List<PhysicalAddress> run = [];
        (uint start, uint bytes) = (0, 0);
        BouncePages standIns = new(hold);
        PageCursor cursor = new(transfer);
        while (cursor.Next(out PhysicalAddress page, out uint inPage, out uint length))
        {
            bool joins = inPage == 0 && ((start + bytes) & PageMask) == 0;
            if (bytes != 0 && !joins)
            {
                Append(ref first, ref last, Mdl.Borrow(_platform, CollectionsMarshal.AsSpan(run), bytes, (int)start));
                run.Clear();
                bytes = 0;
            }
            if (bytes == 0) { start = inPage; }
            run.Add(length == PageMask + 1 ? page : standIns.Next());
            bytes += length;
        }
        Append(ref first, ref last, Mdl.Borrow(_platform, CollectionsMarshal.AsSpan(run), bytes, (int)start));
        return first!;
    }

    private Mdl DescribePieces(in Transfer transfer)
    {
        Mdl? first = null;
        Mdl? last = null;
        MdlCursor cursor = new(transfer.Mdl!, transfer.Offset, transfer.Length);
        while (cursor.NextPiece(out Mdl part, out uint offset, out uint length))
        {
            ulong start = (ulong)part.ByteOffset + offset;
            ReadOnlySpan<PhysicalAddress> pages =
                part.Pages.Slice((int)(start >> PageLog2), PagesIn(part, offset, length));
            Append(ref first, ref last,
                Mdl.Borrow(_platform, pages, length, (int)(start & ((1u << PageLog2) - 1))));
        }
        return first!;
    }

    private static void Append(ref Mdl? first, ref Mdl? last, Mdl part)
    {
        if (last is null) { first = part; }
        else { last.Next = part; }
        last = part;
    }
}
