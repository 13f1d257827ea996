namespace Sluice.Iommu;

/// <summary>The page cache of one page size.</summary>
/// <param name="PageLog2">The page size, 12 or more.</param>
/// <param name="SetsLog2">Sets, a power of two.</param>
/// <param name="Ways">Entries of a set, 1 to 15. With 3 a set fills one cache line.</param>
internal readonly record struct PageCacheShape(int PageLog2, int SetsLog2, int Ways);

/// <summary>
/// Everything a unit keeps between translations: what it knows of each source (the context cache), and one cache of
/// pages (an IOTLB) per page size. Lookups take no lock.
/// <code>
/// page key  63 one │ 62:47 space │ 46:45 the unit's, zero in every key that is kept │ 44:0 page number
/// </code>
/// A space is whatever the unit tells address spaces apart by, in 16 bits: VT-d's domain id. Values are the unit's own.
/// </summary>
/// <remarks>
/// A walk may be overtaken by an invalidation, and must not put back what was just dropped: a fill names the epoch that
/// it read before its walk began, which is before anything that the walk rests on, and every invalidation starts a new
/// epoch under the lock that fills take.
/// </remarks>
internal sealed class TranslationCache
{
    internal const int SpaceShift = 47;
    private const int PageBits = 45;
    private const int LeastPageLog2 = 12;
    private const ulong KeyBit = 1UL << 63;
    private const ulong SpaceMask = 0xFFFFUL << SpaceShift;

    private readonly SetAssociativeCache[] _pages;
    private readonly int[] _sizesLog2;
    private readonly SharedWord _epoch = new();
    private readonly SharedWord _gate = new();
    private readonly SharedWord _fillsDropped = new();

    /// <summary>Empty caches.</summary>
    /// <param name="contextSetsLog2">Sets of the context cache, a power of two.</param>
    /// <param name="contextWays">Entries of such a set, 1 to 15.</param>
    /// <param name="pages">The page sizes, smallest first.</param>
    internal TranslationCache(int contextSetsLog2, int contextWays, params ReadOnlySpan<PageCacheShape> pages)
    {
        Contexts = new(contextSetsLog2, contextWays);
        _pages = new SetAssociativeCache[pages.Length];
        _sizesLog2 = new int[pages.Length];
        for (int i = 0; i < pages.Length; i++)
        {
            _pages[i] = new(pages[i].SetsLog2, pages[i].Ways);
            _sizesLog2[i] = pages[i].PageLog2;
        }
    }

    /// <summary>What is known of each source. Keys are the unit's, never zero.</summary>
    internal SetAssociativeCache Contexts { get; }

    /// <summary>Read it before a walk begins: before a root table's address too.</summary>
    internal long Epoch => Volatile.Read(ref _epoch.Value);

    internal long FillsDropped => Volatile.Read(ref _fillsDropped.Value);

    /// <summary>The pages of one size, by its place among the sizes.</summary>
    internal SetAssociativeCache Pages(int size) => _pages[size];

    /// <summary>The key of the page of size 2^<paramref name="pageLog2"/> that holds an address below 2^57.</summary>
    /// <param name="tag">The space at <see cref="SpaceShift"/>, and the unit's two bits.</param>
    /// <param name="address">An address in the page.</param>
    /// <param name="pageLog2">12 or more.</param>
    internal static ulong KeyOf(ulong tag, LogicalAddress address, int pageLog2) =>
        KeyBit | tag | (address.Value >> pageLog2);

    /// <summary>
    /// Keeps what a walk found, unless an invalidation began since <paramref name="epoch"/>. Never waits: when another
    /// fill or an invalidation is under way the result is simply not kept.
    /// </summary>
    internal void Fill(SetAssociativeCache cache, ulong key, ulong value, long epoch)
    {
        if (Interlocked.CompareExchange(ref _gate.Value, 1, 0) == 0)
        {
            bool current = epoch == _epoch.Value;
            if (current) { cache.Insert(key, value); }
            Volatile.Write(ref _gate.Value, 0);
            if (current) { return; }
        }
        Interlocked.Increment(ref _fillsDropped.Value);
    }

    /// <summary>Drops what is known of the sources whose key and value have the given bits.</summary>
    internal void DropContexts(ulong keyMask, ulong keyBits, ulong valueMask = 0, ulong valueBits = 0)
    {
        Begin();
        Contexts.Remove(keyMask, keyBits, valueMask, valueBits);
        End();
    }

    /// <summary>Drops all pages.</summary>
    internal void DropPages()
    {
        Begin();
        foreach (SetAssociativeCache pages in _pages) { pages.Remove(0, 0); }
        End();
    }

    /// <summary>Drops all pages of one space.</summary>
    internal void DropPages(ushort space)
    {
        Begin();
        foreach (SetAssociativeCache pages in _pages)
        {
            pages.Remove(KeyBit | SpaceMask, KeyBit | ((ulong)space << SpaceShift));
        }
        End();
    }

    /// <summary>
    /// Drops the pages of one space that touch the naturally aligned 2^<paramref name="rangeLog2"/> bytes around an
    /// address. Address bits above what any table translates are dropped, as the bus drops them: what is dropped still
    /// covers what was named.
    /// </summary>
    /// <param name="space">Whose.</param>
    /// <param name="address">Any address in the range.</param>
    /// <param name="rangeLog2">0 to 63.</param>
    internal void DropPages(ushort space, LogicalAddress address, int rangeLog2)
    {
        ulong within = address.Value & ((1UL << (LeastPageLog2 + PageBits)) - 1);
        Begin();
        for (int i = 0; i < _pages.Length; i++)
        {
            ulong key = KeyBit | ((ulong)space << SpaceShift) | (within >> _sizesLog2[i]);
            _pages[i].RemoveRun(key, Math.Clamp(rangeLog2 - _sizesLog2[i], 0, PageBits));
        }
        End();
    }

    /// <summary>Drops everything.</summary>
    internal void Clear()
    {
        DropContexts(0, 0);
        DropPages();
    }

    private void Begin()
    {
        SpinWait spin = default;
        while (Interlocked.CompareExchange(ref _gate.Value, 1, 0) != 0) { spin.SpinOnce(sleep1Threshold: -1); }
        Volatile.Write(ref _epoch.Value, _epoch.Value + 1);
    }

    private void End() => Volatile.Write(ref _gate.Value, 0);
}
