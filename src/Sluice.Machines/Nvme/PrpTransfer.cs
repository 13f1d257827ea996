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

    // What moves next: a segment, and how much of it has moved.
    private int _segment;
    private int _moved;

    /// <summary>Room for transfers of so many pages of 4 KiB, wherever in the first they begin.</summary>
    public PrpTransfer(int pages)
    {
        const int MostEntriesInAPage = (1 << NvmeRegister.MaxPageLog2) / sizeof(ulong);
        _segments = new (LogicalAddress, int)[pages + 1];
        _list = new ulong[Math.Min(pages + 1, MostEntriesInAPage)];
    }

    /// <summary>Finds the segments of <paramref name="length"/> bytes, at most the longest transfer.</summary>
    public NvmeStatus Prepare(DmaPort port, in SubmissionEntry command, int length, int pageLog2)
    {
        (_count, _segment, _moved) = (0, 0, 0);
        ulong pageMask = (1UL << pageLog2) - 1;
        if ((command.Prp1 & 3) != 0) { return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry; }
        int left = length - Add(command.Prp1, length, (1 << pageLog2) - (int)(command.Prp1 & pageMask));
        if (left == 0) { return NvmeStatus.Success; }
        if (left > 1 << pageLog2) { return PrepareList(port, command.Prp2, left, pageLog2); }
        if ((command.Prp2 & pageMask) != 0) { return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry; }
        Add(command.Prp2, left, left);
        return NvmeStatus.Success;
    }

    /// <summary>
    /// Moves data to the driver's memory, from where the last move ended; false when a piece of it was refused.
    /// </summary>
    public bool ToHost(DmaPort port, ReadOnlySpan<byte> data)
    {
        while (!data.IsEmpty)
        {
            LogicalAddress at = Next(data.Length, out int length);
            if (port.Write(at, data[..length]) != DmaStatus.Completed) { return false; }
            data = data[length..];
        }
        return true;
    }

    /// <summary>
    /// Moves data from the driver's memory, from where the last move ended; false when a piece of it was refused.
    /// </summary>
    public bool FromHost(DmaPort port, Span<byte> data)
    {
        while (!data.IsEmpty)
        {
            LogicalAddress at = Next(data.Length, out int length);
            if (port.Read(at, data[..length]) != DmaStatus.Completed) { return false; }
            data = data[length..];
        }
        return true;
    }

    /// <summary>The next bytes that lie together, at most so many.</summary>
    private LogicalAddress Next(int most, out int length)
    {
        (LogicalAddress first, int whole) = _segments[_segment];
        LogicalAddress at = first + (ulong)_moved;
        length = Math.Min(whole - _moved, most);
        _moved += length;
        if (_moved == whole) { (_segment, _moved) = (_segment + 1, 0); }
        return at;
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
