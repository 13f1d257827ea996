namespace Sluice.Dma;

/// <summary>
/// One processor's part of a bounce pool: blocks of pages behind one gate. Others come here only when theirs is short.
/// </summary>
internal sealed class BounceArea
{
    private SpinGate _gate;
    private BounceBlock[] _blocks = [];
    private int _free;
    private long _hits;

    /// <summary>Requests that this area served alone.</summary>
    internal long Hits => Volatile.Read(ref _hits);

    /// <summary>Free pages; exact only while nobody takes or gives.</summary>
    internal int FreePages => Volatile.Read(ref _free);

    /// <summary>Its blocks; grows only.</summary>
    internal ReadOnlySpan<BounceBlock> Blocks => Volatile.Read(ref _blocks);

    /// <summary>All that is needed, from this area alone.</summary>
    internal bool TryTake(in BounceNeed need, out BounceHold hold)
    {
        hold = default;
        if (FreePages < need.Pages) { return false; }
        _gate.Enter();
        if (_free >= need.Pages)
        {
            if (need.Run) { TakeRun(need, ref hold); }
            else { Take(need.Pages, ref hold); }
            if (hold.Pages > 0) { _hits++; }
        }
        _gate.Exit();
        return hold.Pages > 0;
    }

    /// <summary>Adds at most <paramref name="wanted"/> pages.</summary>
    internal void TakeSome(int wanted, ref BounceHold hold)
    {
        if (FreePages == 0) { return; }
        _gate.Enter();
        Take(Math.Min(wanted, _free), ref hold);
        _gate.Exit();
    }

    /// <summary>
    /// Takes back the current run, and those behind it for as long as they are its own. What else the hold has is
    /// current then.
    /// </summary>
    /// <returns>Whether a run is left.</returns>
    /// <exception cref="InvalidOperationException">A run was not held; it is left as it is.</exception>
    internal bool Give(ref BounceRuns runs, bool released)
    {
        _gate.Enter();
        (bool more, int pages, bool held) = (true, 0, true);
        while (more && runs.Current.Block.Area == this)
        {
            BounceRun run = runs.Current;
            if (released) { run.Block.Release(run.First, run.Count); }
            if (run.Block.TryGive(run.First, run.Count)) { pages += run.Count; }
            else { held = false; }
            more = runs.MoveNext();
        }
        Volatile.Write(ref _free, _free + pages);
        _gate.Exit();
        // Two transfers would hold the same page.
        if (!held) { throw new InvalidOperationException("bounce pages are given back that nobody holds"); }
        return more;
    }

    /// <summary>Marks pages as never to be given again until released.</summary>
    internal void Quarantine(in BounceRun run)
    {
        _gate.Enter();
        run.Block.Quarantine(run.First, run.Count);
        _gate.Exit();
    }

    /// <summary>Whether a run could be had here if everything but what is set aside were given back.</summary>
    internal bool CouldEverTakeRun(in BounceNeed need, ReadOnlySpan<BackendReservation> setAside)
    {
        bool could = false;
        _gate.Enter();
        foreach (BounceBlock block in _blocks) { could = could || block.CouldEverTakeRun(need, setAside); }
        _gate.Exit();
        return could;
    }

    internal void Add(PhysicalAddress first, int pages)
    {
        BounceBlock block = new(this, first, pages);
        _gate.Enter();
        Volatile.Write(ref _blocks, [.. _blocks, block]);
        Volatile.Write(ref _free, _free + pages);
        _gate.Exit();
    }

    private void Take(int pages, ref BounceHold hold)
    {
        Volatile.Write(ref _free, _free - pages);
        foreach (BounceBlock block in _blocks)
        {
            if (pages == 0) { return; }
            pages -= block.Take(pages, ref hold);
        }
    }

    private void TakeRun(in BounceNeed need, ref BounceHold hold)
    {
        foreach (BounceBlock block in _blocks)
        {
            if (!block.TryTakeRun(need, ref hold)) { continue; }
            Volatile.Write(ref _free, _free - need.Pages);
            return;
        }
    }
}
