using System.Numerics;

namespace Sluice.Dma;

/// <summary>Frames for common buffers: scattered, or in runs as long as the machine still has them.</summary>
internal static class FrameList
{
    private const int PageLog2 = 12;
    private const int LargeLog2 = 21;

    /// <summary>
    /// Takes frames, the largest of <paramref name="sizes"/> first, each size until it does not fit or has run out.
    /// </summary>
    /// <param name="frames">The machine's.</param>
    /// <param name="count">Frames of 4 KiB.</param>
    /// <param name="sizes">Which runs to ask for: bit n for 2^n bytes; 4 KiB is always tried last.</param>
    /// <param name="pages">The frames.</param>
    /// <returns>False, and nothing taken, when memory has run out.</returns>
    internal static bool TryTake(IFrameAllocator frames, int count, ulong sizes, out PhysicalAddress[] pages)
    {
        pages = new PhysicalAddress[count];
        int taken = 0;
        for (sizes |= 1 << PageLog2; sizes != 0;)
        {
            int size = BitOperations.Log2(sizes);
            int run = 1 << (size - PageLog2);
            if (count - taken >= run && frames.TryAllocate(FrameKind.Buffer, size, out PhysicalAddress first))
            {
                for (int i = 0; i < run; i++) { pages[taken++] = first + ((ulong)i << PageLog2); }
                if (taken == count) { return true; }
                continue;
            }
            sizes &= ~(1UL << size);
        }
        Free(frames, pages.AsSpan(0, taken));
        return false;
    }

    /// <summary>Gives frames back, runs of 2 MiB at once.</summary>
    internal static void Free(IFrameAllocator frames, ReadOnlySpan<PhysicalAddress> pages)
    {
        const int Large = 1 << (LargeLog2 - PageLog2);
        while (!pages.IsEmpty)
        {
            bool isRun = pages.Length >= Large && pages[0].IsAligned(LargeLog2);
            for (int i = 1; isRun && i < Large; i++) { isRun = pages[i] == pages[0] + ((ulong)i << PageLog2); }
            frames.Free(pages[0], isRun ? LargeLog2 : PageLog2);
            pages = pages[(isRun ? Large : 1)..];
        }
    }
}
