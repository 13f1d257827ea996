namespace Sluice.Dma;

/// <summary>Bounce pages of an adapter's leaked transfers: in quarantine until the leak is over. Any thread.</summary>
internal sealed class LeakedHolds(BouncePool pool)
{
    private readonly Lock _gate = new();
    private readonly List<BounceHold> _holds = [];

    /// <summary>The transfer that holds these pages was leaked; its device may still reach them.</summary>
    internal void Add(in BounceHold hold)
    {
        if (hold.Pages == 0) { return; }
        pool.Quarantine(hold);
        lock (_gate) { _holds.Add(hold); }
    }

    /// <summary>No device reaches them any more. The caller wakes who waits for pages.</summary>
    internal void Release()
    {
        BounceHold[] holds;
        lock (_gate)
        {
            holds = [.. _holds];
            _holds.Clear();
        }
        foreach (BounceHold hold in holds) { pool.Release(hold); }
    }
}
