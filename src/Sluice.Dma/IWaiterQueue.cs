namespace Sluice.Dma;

/// <summary>Where requests wait: an adapter, or one of its reservations.</summary>
internal interface IWaiterQueue
{
    /// <summary>Takes a request out of the queue, if it still waits, and fails it.</summary>
    void Cancel(ScatterGatherWaiter waiter, CancellationToken cancellationToken);

    /// <summary>Takes the object back: its result was delivered.</summary>
    void Return(ScatterGatherWaiter waiter);
}
