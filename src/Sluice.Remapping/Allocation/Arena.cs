using System.Numerics;

namespace Sluice.Remapping.Allocation;

/// <summary>
/// A window of 2^20 logical pages (4 GiB), cut into naturally aligned blocks of 2^n pages by the buddy rule: a block is
/// split in halves until it fits, and two free halves always grow together again. So a block of 2^n pages can be taken
/// exactly when 2^n aligned free pages exist; fragmentation never hides them. Not safe from several threads.
/// </summary>
/// <remarks>
/// Bitmaps come into being with the first free block of their order: a window that serves one size costs a few KiB.
/// Callers that can use the whole window take from its top, narrower ones from its bottom, so that wide callers leave
/// the low addresses alone.
/// </remarks>
internal sealed class Arena
{
    /// <summary>The whole window is a block of this order.</summary>
    public const int SizeLog2 = 20;

    private readonly BitTree?[] _free = new BitTree?[SizeLog2 + 1];
    private uint _ordersWithFree;

    /// <summary>A window with nothing in it: <see cref="Give"/> makes pages free.</summary>
    public Arena()
    {
    }

    /// <summary>Whether not a single page is free.</summary>
    public bool IsFull => _ordersWithFree == 0;

    /// <summary>
    /// Takes a block of 2^<paramref name="order"/> pages whose last page is at most <paramref name="lastPage"/>.
    /// </summary>
    public bool TryTake(int order, int lastPage, out int page)
    {
        bool whole = lastPage >= (1 << SizeLog2) - 1;
        for (uint orders = _ordersWithFree >> order << order; orders != 0; orders &= orders - 1)
        {
            int from = BitOperations.TrailingZeroCount(orders);
            BitTree free = _free[from]!;
            int block = whole ? free.Highest() : free.Lowest();
            page = whole ? ((block + 1) << from) - (1 << order) : block << from;
            if (page + (1 << order) - 1 > lastPage) { continue; }
            Take(from, block);
            Split(from, block, order, page >> order);
            return true;
        }
        page = 0;
        return false;
    }

    /// <summary>Gives a block back; it grows together with its free neighbours.</summary>
    public void Give(int order, int page)
    {
        int block = page >> order;
        while (order < SizeLog2 && _free[order] is { } free && free.Contains(block ^ 1))
        {
            Take(order, block ^ 1);
            block >>= 1;
            order++;
        }
        Put(order, block);
    }

    /// <summary>
    /// Makes the pages from <paramref name="first"/> to <paramref name="last"/> free, block by block.
    /// </summary>
    public void GiveRange(int first, int last)
    {
        while (first <= last)
        {
            int order = LargestBlock(first, last);
            Give(order, first);
            first += 1 << order;
        }
    }

    /// <summary>Whether every page from <paramref name="first"/> to <paramref name="last"/> is free.</summary>
    public bool IsFree(int first, int last)
    {
        while (first <= last)
        {
            int order = FreeBlockAround(first);
            if (order < 0) { return false; }
            first = ((first >> order) + 1) << order;
        }
        return true;
    }

    /// <summary>The first page from <paramref name="first"/> to <paramref name="last"/> that is not free, or
    /// -1.</summary>
    public int FirstTaken(int first, int last)
    {
        while (first <= last)
        {
            int order = FreeBlockAround(first);
            if (order < 0) { return first; }
            first = ((first >> order) + 1) << order;
        }
        return -1;
    }

    /// <summary>The first free page from <paramref name="page"/> on, or -1.</summary>
    public int FirstFree(int page)
    {
        if (FreeBlockAround(page) >= 0) { return page; }
        int best = -1;
        for (uint orders = _ordersWithFree; orders != 0; orders &= orders - 1)
        {
            int order = BitOperations.TrailingZeroCount(orders);
            int block = _free[order]!.LowestFrom((page >> order) + 1);
            if (block >= 0 && (best < 0 || block << order < best)) { best = block << order; }
        }
        return best;
    }

    /// <summary>
    /// Takes exactly the pages from <paramref name="first"/> to <paramref name="last"/>, which are free.
    /// </summary>
    public void TakeRange(int first, int last)
    {
        while (first <= last)
        {
            int from = FreeBlockAround(first);
            int block = first >> from;
            int order = Math.Min(from, LargestBlock(first, last));
            Take(from, block);
            Split(from, block, order, first >> order);
            first += 1 << order;
        }
    }

    private static int LargestBlock(int first, int last) =>
        Math.Min(
            first == 0 ? SizeLog2 : BitOperations.TrailingZeroCount(first),
            BitOperations.Log2((uint)(last - first + 1)));

    private int FreeBlockAround(int page)
    {
        for (int order = 0; order <= SizeLog2; order++)
        {
            if (_free[order] is { } free && free.Contains(page >> order)) { return order; }
        }
        return -1;
    }

    /// <summary>
    /// Block <paramref name="block"/> of order <paramref name="from"/> was taken: frees all of it but <paramref
    /// name="kept"/>.
    /// </summary>
    private void Split(int from, int block, int order, int kept)
    {
        while (from > order)
        {
            from--;
            block = kept >> (from - order);
            Put(from, block ^ 1);
        }
    }

    private void Put(int order, int block)
    {
        (_free[order] ??= new BitTree(SizeLog2 - order)).Add(block);
        _ordersWithFree |= 1u << order;
    }

    private void Take(int order, int block)
    {
        BitTree free = _free[order]!;
        free.Remove(block);
        if (free.IsEmpty) { _ordersWithFree &= ~(1u << order); }
    }
}
