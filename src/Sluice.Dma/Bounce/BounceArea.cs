using System.Diagnostics.CodeAnalysis;

namespace Sluice.Dma;

/// <summary>
/// One processor's part of a bounce pool: blocks of pages behind one gate. Others come here only when theirs is short.
/// </summary>
internal sealed class BounceArea
{
    private SpinGate _gate;
    private BounceBlock[] _blocks = [];
    private BounceHold? _holds;
    private int _free;
    private long _hits;

    /// <summary>Requests that this area served alone.</summary>
    internal long Hits => Volatile.Read(ref _hits);

    /// <summary>Free pages; exact only while nobody takes or gives.</summary>
    internal int FreePages => Volatile.Read(ref _free);

    /// <summary>Its blocks; grows only.</summary>
    internal ReadOnlySpan<BounceBlock> Blocks => Volatile.Read(ref _blocks);

    /// <summary>All that is needed, from this area alone.</summary>
    internal bool TryTake(in BounceNeed need, [NotNullWhen(true)] out BounceHold? hold)
    {
        hold = null;
        if (FreePages < need.Pages) { return false; }
        _gate.Enter();
        if (_free >= need.Pages)
        {
            hold = TakeHold();
            if (!need.Run) { Take(need.Pages, hold); }
            else if (!TryTakeRun(need, hold))
            {
                GiveHold(hold);
                hold = null;
            }
            if (hold is not null) { _hits++; }
        }
        _gate.Exit();
        return hold is not null;
    }

    /// <summary>An empty hold, to be filled from several areas.</summary>
    internal BounceHold NewHold()
    {
        _gate.Enter();
        BounceHold hold = TakeHold();
        _gate.Exit();
        return hold;
    }

    /// <summary>Adds at most <paramref name="wanted"/> pages.</summary>
    internal void TakeSome(int wanted, BounceHold hold)
    {
        if (FreePages == 0) { return; }
        _gate.Enter();
        Take(Math.Min(wanted, _free), hold);
        _gate.Exit();
    }

    /// <summary>Takes back what is its own; the hold too, when it came from here.</summary>
    internal void Give(BounceHold hold, bool released = false)
    {
        _gate.Enter();
        int pages = 0;
        foreach (ref readonly BounceRun run in hold.Runs)
        {
            if (run.Block.Area != this) { continue; }
            if (released) { run.Block.Release(run.First, run.Count); }
            run.Block.Give(run.First, run.Count);
            pages += run.Count;
        }
        Volatile.Write(ref _free, _free + pages);
        if (hold.Home == this) { GiveHold(hold); }
        _gate.Exit();
    }

    /// <summary>Marks what is its own as never to be given again until released.</summary>
    internal void Quarantine(BounceHold hold)
    {
        _gate.Enter();
        foreach (ref readonly BounceRun run in hold.Runs)
        {
            if (run.Block.Area == this) { run.Block.Quarantine(run.First, run.Count); }
        }
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

    private void Take(int pages, BounceHold hold)
    {
        Volatile.Write(ref _free, _free - pages);
        foreach (BounceBlock block in _blocks)
        {
            if (pages == 0) { return; }
            pages -= block.Take(pages, hold);
        }
    }

    private bool TryTakeRun(in BounceNeed need, BounceHold hold)
    {
        foreach (BounceBlock block in _blocks)
        {
            if (!block.TryTakeRun(need, hold)) { continue; }
            Volatile.Write(ref _free, _free - need.Pages);
            return true;
        }
        return false;
    }

    private BounceHold TakeHold()
    {
        BounceHold? hold = _holds;
        if (hold is null) { return new(this); }
        _holds = hold.Next;
        hold.Next = null;
        return hold;
    }

    private void GiveHold(BounceHold hold)
    {
        hold.Clear();
        (hold.Next, _holds) = (_holds, hold);
    }
}
