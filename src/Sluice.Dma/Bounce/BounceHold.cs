namespace Sluice.Dma;

/// <summary>Pages of one block that follow each other.</summary>
internal readonly record struct BounceRun(BounceBlock Block, int First, int Count);

/// <summary>
/// Bounce pages that a transfer or a reservation holds, in the order they stand in for its pages. The default holds
/// none.
/// </summary>
/// <remarks>
/// A chain of runs. How long a run is and where the next one begins is written in its block, at its first page: the
/// slot belongs to whoever holds the page, so there is one for every run there can be and holding allocates nothing.
/// The last run's slot is not used, a hold of one run needs none.
/// <code>
/// hold    head ──► page 7   ×3 ──► page 20  ×1 ──► page 12        7 pages: so the last run has 7 − 3 − 1
///         tail ─────────────────────────────────────┘
/// </code>
/// </remarks>
internal struct BounceHold
{
    private BouncePlace _head;
    private BouncePlace _tail;
    private int _inTail;

    /// <summary>Pages in it.</summary>
    internal int Pages { get; private set; }

    /// <summary>Adds pages behind the others; a run that the last one touches becomes part of it.</summary>
    internal void Add(BounceBlock block, int first, int count)
    {
        BouncePlace place = new(block, first);
        if (Pages == 0) { (_head, _tail) = (place, place); }
        else if (_tail.Block != block || _tail.Page + _inTail != first)
        {
            _tail.Block.LinkAt(_tail.Page) = new(_inTail, place);
            (_tail, _inTail) = (place, 0);
        }
        (_inTail, Pages) = (_inTail + count, Pages + count);
    }

    /// <summary>Its runs, in order.</summary>
    public readonly BounceRuns GetEnumerator() => new(_head, _tail, Pages);
}

/// <summary>Where a run begins.</summary>
internal readonly record struct BouncePlace(BounceBlock Block, int Page);

/// <summary>What a block keeps at the first page of a run that is not the last of its hold.</summary>
internal readonly record struct BounceLink(int Count, BouncePlace Next);

/// <summary>Goes through the runs of a hold. It reads one ahead: a run may be given back before the next is asked for,
/// and what its new owner writes there does no harm.</summary>
internal struct BounceRuns(BouncePlace head, BouncePlace tail, int pages)
{
    private BouncePlace _next = head;

    /// <summary>Pages of the runs not returned yet.</summary>
    internal int Left { get; private set; } = pages;

    /// <summary>The run.</summary>
    public BounceRun Current { get; private set; }

    /// <summary>The next run, if there is one.</summary>
    public bool MoveNext()
    {
        if (Left == 0) { return false; }
        BouncePlace here = _next;
        int count = Left;
        if (here != tail) { (count, _next) = here.Block.LinkAt(here.Page); }
        Left -= count;
        Current = new(here.Block, here.Page, count);
        return true;
    }
}

/// <summary>Hands out the pages of a hold one after the other.</summary>
internal struct BouncePages(in BounceHold hold)
{
    private BounceRuns _runs = hold.GetEnumerator();
    private int _page;

    /// <summary>Pages not handed out yet.</summary>
    internal int Left { get; private set; } = hold.Pages;

    internal PhysicalAddress Next()
    {
        Left--;
        if (_page == _runs.Current.Count)
        {
            _runs.MoveNext();
            _page = 0;
        }
        return _runs.Current.Block.AddressOf(_runs.Current.First + _page++);
    }
}
