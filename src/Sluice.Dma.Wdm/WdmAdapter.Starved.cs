using System.Diagnostics.CodeAnalysis;
using System.Runtime.ExceptionServices;

namespace Sluice.Dma.Wdm;

// Requests for lists that the machine has no memory for. What was set aside at the start serves them one at a time, in
// order: each list that is put makes room for the next, so all of them get through.
public sealed partial class WdmAdapter
{
    private readonly Lock _starvedLock = new();
    private FirstComeQueue<ScatterGatherList> _starved;
    private bool _servingStarved;
    private bool _serveStarvedAgain;

    // Whose memory the server writes to outside the lock, or still has to clear of what nobody wants.
    private ScatterGatherList? _inService;

    // True when what is set aside was free: the list is mapped, or never will be.
    // A broken rule is thrown in the driver's own call, and a status in anybody else's.
    private bool TryMapReserved(ScatterGatherList list, bool own, out ScatterGatherLease lease, out NtStatus status) =>
        TryMapReserved(list, new(list), own, out lease, out status);

    private bool TryMapReserved(
        ScatterGatherList list, in Asked asked, bool own, out ScatterGatherLease lease, out NtStatus status)
    {
        (lease, status) = (default, NtStatus.Success);
        if (_reserve is not { } reserve) { return false; }
        try
        {
            return reserve.TryGetScatterGatherList(
                asked.Mdl, asked.Offset, asked.Length, asked.Direction, out lease, 0,
                nameof(BuildScatterGatherList), Driver);
        }
        catch (DmaViolationException) when (own)
        {
            Finish(list);
            throw;
        }
        catch (DmaException e) { status = e.Failure.ToStatus(); }
        catch (ObjectDisposedException) { status = DmaFailure.Disposed.ToStatus(); }
        catch (ArgumentOutOfRangeException) when (!own) { status = DmaFailure.NotABuffer.ToStatus(); }
        return true;
    }

    // Own: in the driver's call that asks, which hears what its own routine throws.
    private void Starve(ScatterGatherList list, bool own)
    {
        lock (_starvedLock) { _starved.TryAdd(list); }
        ServeStarved(own ? list : null);
    }

    // One thread at a time, outside the lock; whoever comes meanwhile, from inside a routine too, asks it for another
    // round: the stack is as deep for a hundred thousand as for one. What a routine throws is told to its driver, and
    // comes out of the call of its own request only, when the others were served.
    private void ServeStarved(ScatterGatherList? own = null)
    {
        long ownTicket = own?.Ticket ?? 0;
        lock (_starvedLock)
        {
            _serveStarvedAgain = true;
            if (_servingStarved || _starved.First is null) { return; }
            _servingStarved = true;
        }
        ExceptionDispatchInfo? thrown = null;
        while (NextStarved(out ScatterGatherList? list, out Asked asked))
        {
            bool answered = TryMapReserved(list, asked, own: false, out ScatterGatherLease lease, out NtStatus status)
                || TryMapOrdinary(list, asked, own: false, out lease, out status);
            bool ours;
            bool over;
            lock (_starvedLock)
            {
                ours = answered && RemoveStarved(list, asked.Ticket);
                over = !answered && !_serveStarvedAgain;
                _servingStarved = !over;
                if (ours || over) { _inService = null; }
            }
            if (over) { break; }
            try
            {
                if (ours)
                {
                    (list.Lease, list.Refusal) = (lease, status);
                    if (!status.IsSuccess()) { Finish(list); }
                    Deliver(list);
                }
                else if (answered && status.IsSuccess())
                {
                    // Cancelled while it was served: nobody sees the list.
                    Adapter.PutScatterGatherList(lease, nameof(CancelAdapterChannel), Driver);
                }
            }
            catch (Exception e) when (ours && list == own && asked.Ticket == ownTicket)
            {
                thrown = ExceptionDispatchInfo.Capture(e);
            }
            catch (Exception e) { Adapter.OnCallbackFailed(e); }
        }
        thrown?.Throw();
    }

    // What was asked is copied here: whoever withdraws it may ask for something else in the same memory at once.
    private bool NextStarved([NotNullWhen(true)] out ScatterGatherList? list, out Asked asked)
    {
        lock (_starvedLock)
        {
            list = _starved.First;
            asked = list is null ? default : new(list);
            (_servingStarved, _serveStarvedAgain, _inService) = (list is not null, false, list);
            return list is not null;
        }
    }

    private bool TryMapOrdinary(ScatterGatherList list, bool own, out ScatterGatherLease lease, out NtStatus status) =>
        TryMapOrdinary(list, new(list), own, out lease, out status);

    private bool TryMapOrdinary(
        ScatterGatherList list, in Asked asked, bool own, out ScatterGatherLease lease, out NtStatus status)
    {
        DmaFailure failure;
        try
        {
            failure = Adapter.TryBuildScatterGatherList(
                list.Request, asked.Mdl, asked.Offset, asked.Length, asked.Direction, out lease, 0,
                nameof(BuildScatterGatherList), Driver);
        }
        catch (DmaViolationException) when (own)
        {
            Finish(list);
            throw;
        }
        catch (DmaViolationException e) { (lease, failure) = (default, e.Failure); }
        // Its buffer was disposed, or its chain cut short, while it waited. It alone hears of it: the line goes on.
        catch (Exception e) when (!own && e is (ObjectDisposedException or ArgumentOutOfRangeException))
        {
            (lease, failure) = (default, DmaFailure.NotABuffer);
        }
        status = failure.ToStatus();
        return failure != DmaFailure.OutOfResources;
    }

    private bool TryCancelList(ScatterGatherList list)
    {
        bool ours = list.Request.TryCancel();
        if (!ours)
        {
            lock (_starvedLock) { ours = RemoveStarved(list, list.Ticket); }
        }
        if (ours) { list.Buffer?.Give(); }
        return ours;
    }

    // Inside the lock. True for exactly one caller per starving request; a later one of the same object has another
    // ticket.
    private bool RemoveStarved(ScatterGatherList list, long ticket) => list.Ticket == ticket && _starved.Remove(list);

    // What one request is for.
    private readonly record struct Asked(Mdl Mdl, uint Offset, uint Length, DmaDirection Direction, long Ticket)
    {
        internal Asked(ScatterGatherList list)
            : this(list.Mdl, list.Offset, list.Length, list.Direction, list.Ticket)
        {
        }
    }
}
