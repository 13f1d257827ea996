using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>
/// The runs of a chain that PRP entries can say: a run may start and end inside a page, and is whole pages in between.
/// Where a part of the chain ends inside its last page, or the next starts inside its first, a run ends.
/// </summary>
/// <remarks>
/// Goes forward only, so that a chain is walked once however many commands it becomes. The default value has no ends:
/// a buffer that is no chain. NVM Express base specification 1.4, 4.3.
/// </remarks>
internal struct PrpRuns(Mdl first)
{
    private const uint PageMask = 0xFFF;
    private Mdl? _part = first;
    private ulong _start;

    /// <summary>How many of <paramref name="length"/> bytes from <paramref name="offset"/> on are one run.</summary>
    /// <param name="offset">Not before that of an earlier call.</param>
    /// <param name="length">At least 1.</param>
    public uint Limit(ulong offset, uint length)
    {
        while (_part is { } part)
        {
            ulong end = _start + part.ByteCount;
            if (end > offset)
            {
                if (end - offset >= length) { return length; }
                if (part.Next is not { } next) { return length; }
                bool joins = ((part.ByteOffset + part.ByteCount) & PageMask) == 0 && next.ByteOffset == 0;
                if (!joins) { return (uint)(end - offset); }
            }
            (_part, _start) = (part.Next, end);
        }
        return length;
    }
}
