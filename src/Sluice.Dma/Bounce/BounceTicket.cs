namespace Sluice.Dma;

/// <summary>
/// An adapter's place in the queue of a pool that it shares with other adapters: taken when the first of its waiting
/// requests finds the pool short, kept until that request is served or gone. One per adapter.
/// </summary>
internal sealed class BounceTicket(BouncePool pool) : IQueued<BounceTicket>
{
    private QueuePlace<BounceTicket> _place;

    // What its request lacks, inside the queue's gate.
    internal BounceNeed Need;

    /// <summary>Counts the times it queued, so that a new place is told from the old one.</summary>
    internal long Turn;

    /// <summary>Serves the adapter's own queue; set by the adapter. True in a call of its own.</summary>
    internal Action<bool> Serve = static _ => { };

    /// <summary>Whether it has a place: then what others give back is offered to this adapter in its turn.</summary>
    internal bool IsQueued => _place.Taken;

    /// <summary>Whether anything that it shares is out and comes back.</summary>
    internal bool MayComeBack => pool.HasLent;

    /// <summary>Who queued after it, inside the queue's gate.</summary>
    internal BounceTicket? Next => _place.Next;

    ref QueuePlace<BounceTicket> IQueued<BounceTicket>.Place => ref _place;

    /// <summary>Nobody of this adapter waits any more: its place goes to the next.</summary>
    internal void Leave() => pool.Leave(this);

    /// <summary>As <see cref="Leave"/>, for who wakes the next later, outside a lock it holds now.</summary>
    internal void Withdraw() => pool.Withdraw(this);

    /// <summary>Offers what came back to those who wait. Outside every gate: callbacks of this adapter's driver may
    /// run.</summary>
    internal void Wake() => pool.Wake(this);
}
