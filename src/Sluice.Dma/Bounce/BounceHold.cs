namespace Sluice.Dma;

/// <summary>Pages of one block that follow each other.</summary>
internal readonly record struct BounceRun(BounceBlock Block, int First, int Count);

/// <summary>
/// Bounce pages that a transfer or a reservation holds, in the order they stand in for its pages. Pooled by the area
/// that handed it out.
/// </summary>
internal sealed class BounceHold(BounceArea home)
{
    private BounceRun[] _runs = new BounceRun[2];
    private int _count;

    /// <summary>Who takes it back when it is empty.</summary>
    internal BounceArea Home => home;

    /// <summary>The link of that area's list; owned by the area.</summary>
    internal BounceHold? Next;

    /// <summary>Pages in it.</summary>
    internal int Pages { get; private set; }

    /// <summary>The runs, in order.</summary>
    internal ReadOnlySpan<BounceRun> Runs => _runs.AsSpan(0, _count);

    /// <summary>Adds pages behind the others; a run that the last one touches becomes part of it.</summary>
    internal void Add(BounceBlock block, int first, int count)
    {
        Pages += count;
        if (_count > 0)
        {
            ref BounceRun last = ref _runs[_count - 1];
            if (last.Block == block && last.First + last.Count == first)
            {
                last = last with { Count = last.Count + count };
                return;
            }
            if (_count == _runs.Length) { Array.Resize(ref _runs, _count * 2); }
        }
        _runs[_count++] = new(block, first, count);
    }

    internal void Clear() => (_count, Pages) = (0, 0);
}

/// <summary>Hands out the pages of a hold one after the other.</summary>
internal ref struct BouncePages(BounceHold? hold)
{
    private readonly ReadOnlySpan<BounceRun> _runs = hold is null ? default : hold.Runs;
    private int _run;
    private int _page;

    /// <summary>Pages not handed out yet.</summary>
    internal int Left { get; private set; } = hold is null ? 0 : hold.Pages;

    internal PhysicalAddress Next()
    {
        Left--;
        ref readonly BounceRun run = ref _runs[_run];
        PhysicalAddress page = run.Block.AddressOf(run.First + _page);
        if (++_page == run.Count) { (_run, _page) = (_run + 1, 0); }
        return page;
    }
}
