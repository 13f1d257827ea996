using System.Runtime.InteropServices;

namespace Sluice.Machines.Nvme;

/// <summary>
/// Where the data of one command lies, from its PRP entries: PRP1 names the first page, at any dword in it; PRP2 names
/// the second page, or a list of pages when there are more; the last slot of a full list page names the next list page.
/// </summary>
/// <remarks>NVM Express base specification 1.4, 4.3. Neighbouring pages become one segment, so that a buffer which is
/// contiguous on the bus moves in one piece. Never reads a list entry it does not need.</remarks>
internal sealed class PrpTransfer
{
    private readonly (LogicalAddress First, int Length)[] _segments;
    private readonly ulong[] _list;
    private int _count;

    public PrpTransfer(int maxTransferLog2)
    {
        int pages = (1 << (maxTransferLog2 - 12)) + 1;
        _segments = new (LogicalAddress, int)[pages];
        _list = new ulong[pages];
    }

    /// <summary>Finds the segments of <paramref name="length"/> bytes, at most the longest transfer.</summary>
    public NvmeStatus Prepare(DmaPort port, in SubmissionEntry command, int length, int pageLog2)
    {
        _count = 0;
        ulong pageMask = (1UL << pageLog2) - 1;
        if ((command.Prp1 & 3) != 0) { return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry; }
        int left = length - Add(command.Prp1, length, (1 << pageLog2) - (int)(command.Prp1 & pageMask));
        if (left == 0) { return NvmeStatus.Success; }
        if (left > 1 << pageLog2) { return PrepareList(port, command.Prp2, left, pageLog2); }
        if ((command.Prp2 & pageMask) != 0) { return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry; }
        Add(command.Prp2, left, left);
        return NvmeStatus.Success;
    }

    /// <summary>Moves data to the driver's memory; false when a piece of it was refused.</summary>
    public bool ToHost(DmaPort port, ReadOnlySpan<byte> data)
    {
        for (int i = 0; i < _count; i++)
        {
            (LogicalAddress first, int length) = _segments[i];
            length = Math.Min(length, data.Length);
            if (port.Write(first, data[..length]) != DmaStatus.Completed) { return false; }
            data = data[length..];
        }
        return true;
    }

    /// <summary>Moves data from the driver's memory; false when a piece of it was refused.</summary>
    public bool FromHost(DmaPort port, Span<byte> data)
    {
        for (int i = 0; i < _count; i++)
        {
            (LogicalAddress first, int length) = _segments[i];
            if (port.Read(first, data[..length]) != DmaStatus.Completed) { return false; }
            data = data[length..];
        }
        return true;
    }

    private NvmeStatus PrepareList(DmaPort port, ulong list, int left, int pageLog2)
    {
        ulong pageMask = (1UL << pageLog2) - 1;
        if ((list & 7) != 0) { return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry; }
        while (true)
        {
            int slots = (int)((pageMask + 1 - (list & pageMask)) >> 3);
            int pages = (int)(((uint)left + pageMask) >> pageLog2);
            bool chained = pages > slots;
            Span<ulong> entries = _list.AsSpan(0, Math.Min(pages, slots));
            if (port.Read(new LogicalAddress(list), MemoryMarshal.AsBytes(entries)) != DmaStatus.Completed)
            {
                return NvmeStatus.DataTransferError;
            }
            foreach (ulong entry in chained ? entries[..^1] : entries)
            {
                if ((entry & pageMask) != 0) { return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry; }
                left -= Add(entry, left, 1 << pageLog2);
            }
            if (!chained) { return NvmeStatus.Success; }
            list = entries[^1];
            if ((list & pageMask) != 0) { return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry; }
        }
    }

    private int Add(ulong address, int left, int room)
    {
        int length = Math.Min(left, room);
        if (_count > 0 && _segments[_count - 1] is var (first, before) && first.Value + (uint)before == address)
        {
            _segments[_count - 1] = (first, before + length);
        }
        else
        {
            _segments[_count++] = (new(address), length);
        }
        return length;
    }
}
