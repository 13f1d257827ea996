using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace Sluice.Dma;

/// <summary>
/// Takes a list that had to be waited for, or the reason why there will be none (<paramref name="list"/> is then
/// empty).
/// </summary>
public delegate void ScatterGatherCallback(ScatterGatherLease list, DmaFailure failure, object? state);

// Waiting for map registers, logical space or table memory: first come, first served, each request answered exactly
// once. Whoever puts a list serves the queue, outside every lock.
public sealed partial class DmaAdapter
{
    private FirstComeQueue<ScatterGatherWaiter> _waiters;
    private ScatterGatherWaiter? _freeWaiters;
    private long _tickets;
    private int _serveCalls;
    private int _server;
    private long _waited;
    private long _longestWait;

    /// <summary>As <see cref="TryGetScatterGatherList"/>, but waits in a queue while resources are short.</summary>
    /// <remarks>
    /// Completes at once when nothing is short. Continuations run on the thread pool, never inside another driver's
    /// put. A request that nothing outstanding could ever satisfy fails with <see cref="DmaFailure.OutOfResources"/>
    /// and does not wait. One whose buffer was disposed or whose chain was shortened while it waited fails alone, with
    /// what mapping it threw.
    /// </remarks>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="direction">Which way the data goes.</param>
    /// <param name="tag">Any number that helps to recognise the request in a report.</param>
    /// <param name="cancellationToken">Leaves the queue; nothing is mapped then.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <exception cref="DmaException">It cannot succeed by waiting (thrown at the await).</exception>
    /// <exception cref="OperationCanceledException">Cancelled before its turn came.</exception>
    public ValueTask<ScatterGatherLease> GetScatterGatherListAsync(
        Mdl mdl, uint offset, uint length, DmaDirection direction, uint tag = 0,
        CancellationToken cancellationToken = default,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        Check(mdl, offset, length, direction, site, file);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<ScatterGatherLease>(cancellationToken);
        }
        Transfer transfer = new(mdl, offset, length, direction);
        MappingOrigin origin = new(tag, site, file);
        DmaFailure failure = TryMap(transfer, origin, ahead: false, out ScatterGatherLease list,
            out PhysicalAddress culprit);
        if (failure == DmaFailure.None) { return new(list); }
        if (failure != DmaFailure.OutOfResources || !CouldEver(transfer))
        {
            return ValueTask.FromException<ScatterGatherLease>(Explain(failure, length, culprit));
        }
        ScatterGatherWaiter waiter = TakeWaiter(transfer, origin);
        ValueTask<ScatterGatherLease> task = waiter.Task;
        DmaFailure end = Enqueue(waiter, out _);
        if (end != DmaFailure.None) { Answer(waiter, default, end, default, default, 0); }
        else
        {
            if (cancellationToken.CanBeCanceled) { waiter.Register(cancellationToken); }
            Serve();
        }
        return task;
    }

    /// <summary>
    /// As <see cref="TryGetScatterGatherList"/>, but calls back: before this returns when nothing is short, else from
    /// the thread whose put on this adapter made room, or from the thread pool when that was another adapter's. Never
    /// under a lock; exactly once.
    /// </summary>
    /// <remarks>What a callback throws comes out of here, or, when it waited, of
    /// <see cref="CallbackFailed"/>.</remarks>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="direction">Which way the data goes.</param>
    /// <param name="callback">Takes the list, or the failure.</param>
    /// <param name="state">Handed to the callback.</param>
    /// <param name="tag">Any number that helps to recognise the request in a report.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    public void GetScatterGatherList(
        Mdl mdl, uint offset, uint length, DmaDirection direction, ScatterGatherCallback callback, object? state = null,
        uint tag = 0, [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        ArgumentNullException.ThrowIfNull(callback);
        Check(mdl, offset, length, direction, site, file);
        Transfer transfer = new(mdl, offset, length, direction);
        MappingOrigin origin = new(tag, site, file);
        DmaFailure failure = TryMap(transfer, origin, ahead: false, out ScatterGatherLease list, out _);
        if (failure == DmaFailure.RuleBroken) { throw DmaVerifier.Broken(); }
        if (failure != DmaFailure.OutOfResources || !CouldEver(transfer))
        {
            callback(list, failure, state);
            return;
        }
        ScatterGatherWaiter waiter = TakeWaiter(transfer, origin);
        (waiter.Callback, waiter.CallbackState) = (callback, state);
        EnqueueAndServe(waiter);
    }

    private void EnqueueAndServe(ScatterGatherWaiter waiter)
    {
        DmaFailure end = Enqueue(waiter, out long ticket);
        if (end == DmaFailure.None) { Serve(own: ticket); }
        else { Answer(waiter, default, end, default, new(OfAnother: false, ticket), ticket); }
    }

    // Only one thread serves at a time, and a put inside a callback does not recurse: it asks the server for another
    // round. What the callback of this call's own request throws comes out when everyone else was served; what others
    // throw is told to their driver.
    private void Serve(bool ofAnother = false, long own = 0)
    {
        Service service = new(ofAnother, own);
        int calls = Interlocked.Increment(ref _serveCalls);
        if (calls != 1) { return; }
        Volatile.Write(ref _server, Environment.CurrentManagedThreadId);
        ExceptionDispatchInfo? thrown = null;
        do
        {
            bool more = true;
            while (more)
            {
                try { more = ServeFirst(service) || ServeChannel(service); }
                catch (Exception e) { thrown ??= ExceptionDispatchInfo.Capture(e); }
            }
            calls = Interlocked.Add(ref _serveCalls, -calls);
        }
        while (calls != 0);
        Interlocked.CompareExchange(ref _server, 0, Environment.CurrentManagedThreadId);
        thrown?.Throw();
    }

    private bool ServeFirst(in Service service)
    {
        _gate.Enter();
        ScatterGatherWaiter? waiter = _waiters.First;
        if (waiter is null || ChannelIsBefore(waiter.Ticket))
        {
            _gate.Exit();
            return false;
        }
        (Transfer transfer, MappingOrigin origin) = (waiter.Transfer, waiter.Origin);
        (long ticket, long returned) = (waiter.Ticket, _returned);
        _gate.Exit();

        DmaFailure failure;
        bool mayWait;
        ScatterGatherLease list = default;
        PhysicalAddress culprit = default;
        try
        {
            failure = TryMap(transfer, origin, ahead: true, out list, out culprit);
            mayWait = failure == DmaFailure.OutOfResources && CouldEver(transfer);
        }
        catch (Exception unusable)
        {
            // Whatever it was: a request that stayed would throw again for ever.
            Refuse(waiter, ticket, unusable, service);
            return true;
        }
        long now = failure == DmaFailure.None ? _platform.Clock.Nanoseconds : 0;
        _gate.Enter();
        bool retry = _returned != returned;
        if (mayWait && (retry || _outstanding != 0 || _channelsHeld != 0 || _ticket is { IsQueued: true }))
        {
            _gate.Exit();
            return retry;
        }
        bool ours = waiter.Ticket == ticket && _waiters.Remove(waiter);
        if (ours && failure == DmaFailure.None)
        {
            _waited++;
            _longestWait = Math.Max(_longestWait, now - waiter.Since);
        }
        _gate.Exit();
        if (ours) { Answer(waiter, list, failure, culprit, service, ticket); }
        else if (failure == DmaFailure.RuleBroken) { _ = DmaVerifier.Broken(); }
        else if (failure == DmaFailure.None)
        {
            // Cancelled while it was served: nobody ever sees the list, so it does not count as a request.
            PutScatterGatherList(list, origin.Member, origin.File);
            _gate.Enter();
            _requests--;
            _bytes -= transfer.Length;
            _gate.Exit();
        }
        return true;
    }

    // Its buffer was disposed, or its chain changed, while it waited. It alone hears of it: the queue goes on.
    private void Refuse(ScatterGatherWaiter waiter, long ticket, Exception reason, in Service service)
    {
        _gate.Enter();
        bool ours = waiter.Ticket == ticket && _waiters.Remove(waiter);
        _gate.Exit();
        if (!ours) { return; }
        if (waiter.Callback is null) { waiter.Fail(reason); }
        else { Answer(waiter, default, DmaFailure.NotABuffer, default, service, ticket); }
    }

    private void Answer(ScatterGatherWaiter waiter, ScatterGatherLease list, DmaFailure failure,
        PhysicalAddress culprit, in Service service, long ticket)
    {
        if (waiter.Callback is { } callback)
        {
            object? state = waiter.CallbackState;
            if (failure == DmaFailure.RuleBroken) { _ = DmaVerifier.Broken(); }
            else if (failure != DmaFailure.None && waiter.Request is { } request)
            {
                request.Problem = Explain(failure, waiter.Transfer.Length, culprit);
            }
            GiveWaiter(waiter);
            CallBack(new(callback, null, list, null, failure, state), service, service.Own != 0 && service.Own == ticket);
        }
        else if (failure == DmaFailure.None) { waiter.Complete(list); }
        else { waiter.Fail(Explain(failure, waiter.Transfer.Length, culprit)); }
    }

    void IWaiterQueue.Cancel(ScatterGatherWaiter waiter, CancellationToken cancellationToken)
    {
        _gate.Enter();
        bool ours = _waiters.Remove(waiter);
        _gate.Exit();
        if (!ours) { return; }
        waiter.Fail(new OperationCanceledException(cancellationToken));
        Serve();
    }

    // None when it waits; else why nobody waits any more.
    private DmaFailure Enqueue(ScatterGatherWaiter waiter, out long ticket)
    {
        waiter.Since = _platform.Clock.Nanoseconds;
        _gate.Enter();
        DmaFailure end = _end;
        ticket = waiter.Ticket = ++_tickets;
        if (end == DmaFailure.None) { _waiters.TryAdd(waiter); }
        _gate.Exit();
        return end;
    }

    private ScatterGatherWaiter TakeWaiter(in Transfer transfer, in MappingOrigin origin)
    {
        _gate.Enter();
        ScatterGatherWaiter? waiter = _freeWaiters;
        if (waiter is not null) { _freeWaiters = waiter.NextFree; }
        _gate.Exit();
        waiter ??= new(this);
        (waiter.Transfer, waiter.Origin, waiter.NextFree) = (transfer, origin, null);
        return waiter;
    }

    void IWaiterQueue.Return(ScatterGatherWaiter waiter) => GiveWaiter(waiter);

    private void GiveWaiter(ScatterGatherWaiter waiter)
    {
        waiter.Clear();
        if (waiter.Request is { } request)
        {
            request.End();
            return;
        }
        _gate.Enter();
        (waiter.NextFree, _freeWaiters) = (_freeWaiters, waiter);
        _gate.Exit();
    }
}
