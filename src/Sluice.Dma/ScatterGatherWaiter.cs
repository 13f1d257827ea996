using System.Threading.Tasks.Sources;

namespace Sluice.Dma;

/// <summary>
/// A request in a queue, and the task behind it. Pooled: it goes back when its result was taken.
/// </summary>
internal sealed class ScatterGatherWaiter(IWaiterQueue queue)
    : IValueTaskSource<ScatterGatherLease>, IQueued<ScatterGatherWaiter>
{
    private ManualResetValueTaskSourceCore<ScatterGatherLease> _core = new() { RunContinuationsAsynchronously = true };
    private CancellationTokenRegistration _registration;

    private QueuePlace<ScatterGatherWaiter> _place;

    // The link of its owner's list of free ones, inside the owner's gate.
    internal ScatterGatherWaiter? NextFree;

    // Tells this request from the next one that uses the same object.
    internal long Ticket;

    // When it began to wait, on the platform clock.
    internal long Since;

    internal Transfer Transfer;
    internal MappingOrigin Origin;
    internal ScatterGatherCallback? Callback;
    internal object? CallbackState;

    // Whose place in the queue this is when the driver made it; null for a pooled one.
    internal ScatterGatherRequest? Request;

    ref QueuePlace<ScatterGatherWaiter> IQueued<ScatterGatherWaiter>.Place => ref _place;

    internal ValueTask<ScatterGatherLease> Task => new(this, _core.Version);

    internal void Register(CancellationToken token) => _registration = token.UnsafeRegister(
        static (state, token) =>
        {
            var waiter = (ScatterGatherWaiter)state!;
            waiter.Home.Cancel(waiter, token);
        },
        this);

    internal void Complete(ScatterGatherLease list) => _core.SetResult(list);

    internal void Fail(Exception reason) => _core.SetException(reason);

    internal void Clear()
    {
        _core.Reset();
        (Transfer, Origin, Callback, CallbackState, _registration) = (default, default, null, null, default);
    }

    private IWaiterQueue Home => queue;

    ScatterGatherLease IValueTaskSource<ScatterGatherLease>.GetResult(short token)
    {
        if (_core.GetStatus(token) == ValueTaskSourceStatus.Pending)
        {
            throw new InvalidOperationException("a scatter/gather request has no result before it completes: await it");
        }

        // No cancellation callback can touch this waiter after this line, so it may serve another request.
        _registration.Dispose();
        try { return _core.GetResult(token); }
        finally { queue.Return(this); }
    }

    ValueTaskSourceStatus IValueTaskSource<ScatterGatherLease>.GetStatus(short token) => _core.GetStatus(token);

    void IValueTaskSource<ScatterGatherLease>.OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);
}
