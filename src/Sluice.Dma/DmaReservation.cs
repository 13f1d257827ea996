using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// Everything that one transfer at a time needs, set aside: record, elements, map registers, logical addresses, page
/// tables, pages to copy through. A transfer through it takes no memory and cannot run short of anything: the last
/// resort of a driver that must make progress when the machine is out of memory.
/// </summary>
/// <remarks>
/// From <see cref="DmaAdapter.Reserve"/>. Requests take turns in the order they came. Lists are put as all others
/// are. Safe from any thread. It can still fail for reasons that no resource cures: a page that is no buffer, one
/// out of the device's reach where nothing can move it, a list of several elements for a device that takes one, a
/// device that is blocked.
/// </remarks>
public sealed class DmaReservation : IDisposable, IWaiterQueue
{
    private readonly DmaAdapter _adapter;
    private readonly ScatterGatherElement[] _elements;
    private SpinGate _gate;
    private Mapping? _record;
    private bool _busy;
    private bool _over;
    private FirstComeQueue<ScatterGatherWaiter> _waiters;
    private ScatterGatherWaiter? _freeWaiters;
    private int _waiting;

    internal DmaReservation(
        DmaAdapter adapter, uint maximumLength, int mapRegisters, BackendReservation backend, Mapping record,
        int elements, int waiters)
    {
        (_adapter, MaximumLength, MapRegisters, Backend) = (adapter, maximumLength, mapRegisters, backend);
        (_record, _elements) = (record, new ScatterGatherElement[elements]);
        backend.Owner = this;
        while (waiters-- > 0) { _freeWaiters = new(this) { NextFree = _freeWaiters }; }
    }

    /// <summary>The longest transfer it serves, in bytes.</summary>
    public uint MaximumLength { get; }

    /// <summary>Pages that one transfer may touch: a chain of MDLs takes one more for each part that ends inside a
    /// page.</summary>
    public int MapRegisters { get; }

    /// <summary>Whether its one transfer is in flight.</summary>
    public bool IsBusy => Volatile.Read(ref _busy);

    /// <summary>Requests that wait for it now.</summary>
    public int Waiting => Volatile.Read(ref _waiting);

    internal BackendReservation Backend { get; }

    /// <summary>The channel it was set aside for, whose registers it uses; null for none.</summary>
    internal DmaChannel? Channel { get; set; }

    /// <summary>Maps with what was set aside; false while its one transfer is in flight.</summary>
    internal bool TryMap(
        in Transfer transfer, in MappingOrigin origin, out ScatterGatherLease list, out DmaFailure failure)
    {
        (list, failure) = (default, DmaFailure.None);
        if (!TryEnter()) { return false; }
        failure = Map(transfer, origin, out list, out _);
        return true;
    }

    internal ScatterGatherElement[] Elements => _elements;

    /// <summary>
    /// As <see cref="DmaAdapter.TryGetScatterGatherList"/>, with what was set aside. Never waits and never allocates.
    /// </summary>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, 1 to <see cref="MaximumLength"/>.</param>
    /// <param name="direction">Which way the data goes: it becomes the device's right.</param>
    /// <param name="list">The list; put it exactly once.</param>
    /// <param name="tag">Any number that helps to recognise the request in a report.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <returns>False only while its one transfer is in flight.</returns>
    /// <exception cref="DmaException">It cannot succeed by waiting.</exception>
    /// <exception cref="ArgumentOutOfRangeException">More bytes or pages than were reserved, or than the buffer
    /// has.</exception>
    public bool TryGetScatterGatherList(
        Mdl mdl, uint offset, uint length, DmaDirection direction, out ScatterGatherLease list, uint tag = 0,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        _adapter.CheckReserved(this, mdl, offset, length, direction);
        list = default;
        if (!TryEnter())
        {
            // The list in flight may never be put: there is nothing to try again for.
            return _adapter.Ended is var end and not DmaFailure.None ? throw _adapter.Explain(end, length, default)
                : false;
        }
        Transfer transfer = new(mdl, offset, length, direction);
        DmaFailure failure = Map(transfer, new(tag, site, file), out list, out PhysicalAddress culprit);
        return failure == DmaFailure.None ? true : throw _adapter.Explain(failure, length, culprit);
    }

    /// <summary>
    /// As <see cref="TryGetScatterGatherList"/>, but waits its turn. Requests are served in the order they came, each
    /// is answered exactly once.
    /// </summary>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, 1 to <see cref="MaximumLength"/>.</param>
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
        _adapter.CheckReserved(this, mdl, offset, length, direction);
        if (cancellationToken.IsCancellationRequested)
        {
            return ValueTask.FromCanceled<ScatterGatherLease>(cancellationToken);
        }
        Transfer transfer = new(mdl, offset, length, direction);
        MappingOrigin origin = new(tag, site, file);
        if (!TryEnterOrQueue(transfer, origin, out ScatterGatherWaiter? waiter))
        {
            ValueTask<ScatterGatherLease> task = waiter!.Task;
            if (cancellationToken.CanBeCanceled) { waiter.Register(cancellationToken); }
            // Whoever answered those that waited at the end may have come too early for this one.
            if (_adapter.Ended is var end and not DmaFailure.None) { FailWaiting(end); }
            return task;
        }
        DmaFailure failure = Map(transfer, origin, out ScatterGatherLease list, out PhysicalAddress culprit);
        return failure == DmaFailure.None ? new(list)
            : ValueTask.FromException<ScatterGatherLease>(_adapter.Explain(failure, length, culprit));
    }

    /// <summary>
    /// Gives everything back: now, or when the list of its transfer is put. Requests that wait fail with
    /// <see cref="DmaFailure.Disposed"/>. Harmless twice, and after the adapter was disposed.
    /// </summary>
    public void Dispose()
    {
        bool idle = Close();
        if (idle) { _adapter.Unreserve(this, _record); }
    }

    /// <summary>
    /// The record of the next transfer, inside the adapter's gate; null when the last one was leaked.
    /// </summary>
    internal Mapping? TakeRecord() => Interlocked.Exchange(ref _record, null);

    /// <summary>
    /// Whether, while it is idle, its transfer was leaked: a device may still reach what it set aside.
    /// </summary>
    internal bool IsLeaked => Volatile.Read(ref _record) is null;

    /// <summary>The record of the next transfer.</summary>
    internal void GiveRecord(Mapping record) => Volatile.Write(ref _record, record);

    /// <summary>Its transfer is over, or never began: the next in line has its turn.</summary>
    internal void Leave()
    {
        while (true)
        {
            _gate.Enter();
            ScatterGatherWaiter? waiter = _waiters.First;
            if (waiter is null)
            {
                bool last = _over && _busy;
                _busy = false;
                _gate.Exit();
                if (last) { _adapter.Unreserve(this, _record); }
                return;
            }
            Remove(waiter);
            _gate.Exit();
            if (Serve(waiter)) { return; }
        }
    }

    /// <summary>Takes no more requests, and fails those that wait. True once: who gets it gives everything back; false
    /// while a transfer is in flight.</summary>
    internal bool Close()
    {
        _gate.Enter();
        bool idle = !_busy;
        bool first = !_over;
        _over = true;
        _gate.Exit();
        FailWaiting(DmaFailure.Disposed);
        return first && idle;
    }

    /// <summary>Answers those that wait, because nobody's put will: disposed, or the device is blocked.</summary>
    internal void FailWaiting(DmaFailure reason)
    {
        while (true)
        {
            _gate.Enter();
            ScatterGatherWaiter? waiter = _waiters.First;
            if (waiter is not null) { Remove(waiter); }
            _gate.Exit();
            if (waiter is null) { return; }
            waiter.Fail(reason == DmaFailure.Disposed
                ? new DmaException(reason,
                    $"a reservation of {_adapter.Driver} {_adapter.Device}, or the adapter, was disposed")
                : _adapter.Explain(reason, waiter.Transfer.Length, default));
        }
    }

    void IWaiterQueue.Cancel(ScatterGatherWaiter waiter, CancellationToken cancellationToken)
    {
        _gate.Enter();
        bool ours = Remove(waiter);
        _gate.Exit();
        if (ours) { waiter.Fail(new OperationCanceledException(cancellationToken)); }
    }

    void IWaiterQueue.Return(ScatterGatherWaiter waiter)
    {
        waiter.Clear();
        _gate.Enter();
        (waiter.NextFree, _freeWaiters) = (_freeWaiters, waiter);
        _gate.Exit();
    }

    // The waiter is out of the queue, so nobody else answers it. True when it has the reservation now.
    private bool Serve(ScatterGatherWaiter waiter)
    {
        PhysicalAddress culprit;
        DmaFailure failure;
        ScatterGatherLease list;
        uint length = waiter.Transfer.Length;
        try { failure = _adapter.TryMapReserved(this, waiter.Transfer, waiter.Origin, out list, out culprit); }
        catch (Exception e)
        {
            // The buffer was disposed while it waited: whoever awaits hears of it, and the next has its turn.
            waiter.Fail(e);
            return false;
        }
        if (failure == DmaFailure.None)
        {
            waiter.Complete(list);
            return true;
        }
        waiter.Fail(_adapter.Explain(failure, length, culprit));
        return false;
    }

    private DmaFailure Map(in Transfer transfer, in MappingOrigin origin, out ScatterGatherLease list,
        out PhysicalAddress culprit)
    {
        DmaFailure failure = DmaFailure.Disposed;
        try
        {
            failure = _adapter.TryMapReserved(this, transfer, origin, out list, out culprit);
            return failure;
        }
        finally
        {
            if (failure != DmaFailure.None) { Leave(); }
        }
    }

    private bool TryEnter()
    {
        _gate.Enter();
        bool over = _over;
        bool free = !over && !_busy;
        _busy |= free;
        _gate.Exit();
        return over ? throw Over() : free;
    }

    private bool TryEnterOrQueue(in Transfer transfer, in MappingOrigin origin, out ScatterGatherWaiter? waiter)
    {
        waiter = null;
        while (true)
        {
            _gate.Enter();
            if (_over || !_busy || _freeWaiters is not null) { break; }
            _gate.Exit();
            // More wait than were foreseen. Not inside the gate: the collector may run.
            ((IWaiterQueue)this).Return(new(this));
        }
        bool over = _over;
        bool free = !over && !_busy;
        _busy |= free;
        if (!free && !over)
        {
            waiter = _freeWaiters!;
            _freeWaiters = waiter.NextFree;
            (waiter.Transfer, waiter.Origin) = (transfer, origin);
            _waiters.TryAdd(waiter);
            _waiting++;
        }
        _gate.Exit();
        return over ? throw Over() : free;
    }

    // Told, if rules are watched: a driver that ends is not told what its adapter's end did.
    private ObjectDisposedException Over()
    {
        if (_adapter is { IsReleased: false, Verifier: { } verifier })
        {
            verifier.Note(VerificationRule.UsedAfterFree, 0,
                $"{MapRegisters} map registers are used that were set aside, and they were given back", default);
            DmaVerifier.Conclude();
        }
        return new(nameof(DmaReservation));
    }

    // Inside the gate.
    private bool Remove(ScatterGatherWaiter waiter)
    {
        bool ours = _waiters.Remove(waiter);
        if (ours) { _waiting--; }
        return ours;
    }
}
