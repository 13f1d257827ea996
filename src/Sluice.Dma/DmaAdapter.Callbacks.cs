using System.Diagnostics;

namespace Sluice.Dma;

// Where the callbacks of this adapter's driver run that were waited for, and who hears what they throw. Never a call of
// another driver: what that makes room for is answered at once, and the platform runs the callback (the thread pool, or
// a later step of a machine of one thread).
public sealed partial class DmaAdapter
{
    private readonly PendingCallbacks _pending;
    private long _callbackFailures;

    /// <summary>
    /// What a callback of this adapter's driver threw that had waited. It is told to nobody else: not to the call that
    /// made room, which is innocent, and not to others that wait. Without a subscriber it goes to
    /// <see cref="Trace"/>.
    /// </summary>
    /// <remarks>
    /// Raised on the thread of the callback, when that is over. A callback that runs inside the call that asked for it
    /// throws there instead. What a subscriber throws is traced. Counted by
    /// <see cref="DmaStatistics.CallbackFailures"/>.
    /// </remarks>
    public event Action<Exception>? CallbackFailed;

    /// <summary>A callback of this adapter's driver threw, and the call it ran in is not its own.</summary>
    internal void OnCallbackFailed(Exception thrown)
    {
        Interlocked.Increment(ref _callbackFailures);
        Action<Exception>? subscribers = CallbackFailed;
        if (subscribers is null)
        {
            Trace.WriteLine($"a DMA callback of {Driver} {Device} threw: {thrown}");
            return;
        }
        foreach (Action<Exception> subscriber in Delegate.EnumerateInvocationList(subscribers))
        {
            try { subscriber(thrown); }
            catch (Exception e) { Trace.WriteLine($"a subscriber of {Driver} {Device} threw: {e}"); }
        }
    }

    // By who serves the queue. Own: the request is made by the call on this thread, which hears what its callback
    // throws.
    private void CallBack(in PendingCallback callback, in Service service, bool own)
    {
        if (_pending.TryAdd(callback, elsewhere: service.OfAnother)) { return; }
        try { callback.Run(); }
        catch (Exception e) when (!own) { OnCallbackFailed(e); }
    }

    /// <summary>In whose call the queue is served.</summary>
    /// <param name="OfAnother">Another adapter's, or the platform's timer.</param>
    /// <param name="Own">The ticket of the request that this call makes; 0 for none.</param>
    private readonly record struct Service(bool OfAnother, long Own);
}
