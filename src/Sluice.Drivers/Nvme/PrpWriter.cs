using System.Runtime.InteropServices;
using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>
/// Turns a scatter/gather list into PRP entries: the first may start anywhere in its page, all others are whole pages.
/// Behind a remapping unit a scattered buffer is one run of pages, so this mostly counts up.
/// </summary>
/// <remarks>NVM Express base specification 1.4, 4.3. Transfers never need more than one page of list.</remarks>
internal static class PrpWriter
{
    private const int PageLog2 = 12;

    /// <summary>
    /// Bytes of PRP list that a transfer of <paramref name="bytes"/> may need: a power of two, hence inside one page.
    /// </summary>
    public static uint ListBytes(uint bytes) =>
        System.Numerics.BitOperations.RoundUpToPowerOf2((bytes >> PageLog2) * sizeof(ulong));

    /// <summary>
    /// Writes the list, if one is needed, at <paramref name="listOffset"/> of <paramref name="lists"/>.
    /// </summary>
    /// <exception cref="ArgumentException">An element inside the list does not start or end at a page: PRPs cannot say
    /// that.</exception>
    public static (LogicalAddress Prp1, LogicalAddress Prp2) Write(
        in ScatterGatherLease elements, CommonBuffer lists, uint listOffset, uint listBytes)
    {
        int count = elements.Count;
        ScatterGatherElement element = elements[0];
        LogicalAddress prp1 = element.Address;
        LogicalAddress second = default;
        Span<ulong> list = default;
        int pages = 0;
        for (int i = 0; i < count; i++)
        {
            if (i > 0) { element = elements[i]; }
            LogicalAddress last = element.Address + (element.Length - 1);
            bool startsInside = i > 0 && !element.Address.IsAligned(PageLog2);
            bool endsInside = i < count - 1 && !(last + 1).IsAligned(PageLog2);
            if (startsInside || endsInside)
            {
                throw new ArgumentException(
                    "a buffer for NVMe has no gaps: only its first page may start, and its last end, inside");
            }
            LogicalAddress page = element.Address.AlignDown(PageLog2);
            if (i == 0) { page += 1 << PageLog2; }
            for (; page <= last; page += 1 << PageLog2)
            {
                if (pages == 0) { second = page; }
                else
                {
                    if (pages == 1)
                    {
                        list = MemoryMarshal.Cast<byte, ulong>(lists.GetSpan(listOffset, (int)listBytes));
                        list[0] = second.Value;
                    }
                    list[pages] = page.Value;
                }
                pages++;
            }
        }
        return (prp1, pages > 1 ? lists.Address + listOffset : second);
    }
}
