namespace Sluice.Dma.Wdm;

// Requests for lists that the machine has no memory for. What was set aside at the start serves them one at a time, in
// order: each list that is put makes room for the next, so all of them get through.
public sealed partial class WdmAdapter
{
    private readonly Lock _starvedLock = new();
    private ScatterGatherList? _firstStarved;
    private ScatterGatherList? _lastStarved;
    private bool _servingStarved;
    private bool _serveStarvedAgain;

    // True when what is set aside was free: the list is mapped, or never will be.
    // A broken rule is thrown in the driver's own call, and a status in anybody else's.
    private bool TryMapReserved(ScatterGatherList list, bool own, out ScatterGatherLease lease, out NtStatus status)
    {
        (lease, status) = (default, NtStatus.Success);
        if (_reserve is not { } reserve) { return false; }
        try
        {
            return reserve.TryGetScatterGatherList(
                list.Mdl, list.Offset, list.Length, list.Direction, out lease, 0,
                nameof(BuildScatterGatherList), Driver);
        }
        catch (DmaViolationException) when (own)
        {
            Finish(list);
            throw;
        }
        catch (DmaException e) { status = e.Failure.ToStatus(); }
        catch (ObjectDisposedException) { status = DmaFailure.Disposed.ToStatus(); }
        return true;
    }

    private void Starve(ScatterGatherList list)
    {
        lock (_starvedLock)
        {
            (list.Starving, list.NextStarved) = (true, null);
            if (_lastStarved is null) { _firstStarved = list; }
            else { _lastStarved.NextStarved = list; }
            _lastStarved = list;
        }
        ServeStarved();
    }

    // One thread at a time, outside the lock; whoever comes meanwhile asks it for another round.
    private void ServeStarved()
    {
        while (true)
        {
            ScatterGatherList? list;
            lock (_starvedLock)
            {
                list = _firstStarved;
                _serveStarvedAgain |= _servingStarved;
                if (_servingStarved || list is null) { return; }
                (_servingStarved, _serveStarvedAgain) = (true, false);
            }
            bool answered = TryMapReserved(list, own: false, out ScatterGatherLease lease, out NtStatus status)
                || TryMapOrdinary(list, own: false, out lease, out status);
            bool ours;
            bool again;
            lock (_starvedLock)
            {
                ours = answered && RemoveStarved(list);
                again = _serveStarvedAgain;
                _servingStarved = false;
            }
            if (ours)
            {
                list.Lease = lease;
                if (!status.IsSuccess()) { Finish(list); }
                Deliver(list);
            }
            else if (answered && status.IsSuccess())
            {
                // Cancelled while it was served: nobody sees the list.
                Adapter.PutScatterGatherList(lease, nameof(CancelAdapterChannel), Driver);
            }
            if (!answered && !again) { return; }
        }
    }

    private bool TryMapOrdinary(ScatterGatherList list, bool own, out ScatterGatherLease lease, out NtStatus status)
    {
        DmaFailure failure;
        try
        {
            failure = Adapter.TryBuildScatterGatherList(
                list.Request, list.Mdl, list.Offset, list.Length, list.Direction, out lease, 0,
                nameof(BuildScatterGatherList), Driver);
        }
        catch (DmaViolationException) when (own)
        {
            Finish(list);
            throw;
        }
        catch (DmaViolationException e) { (lease, failure) = (default, e.Failure); }
        status = failure.ToStatus();
        return failure != DmaFailure.OutOfResources;
    }

    private bool TryCancelList(ScatterGatherList list)
    {
        bool ours = list.Request.TryCancel();
        if (!ours)
        {
            lock (_starvedLock) { ours = RemoveStarved(list); }
        }
        if (ours) { list.Buffer?.Give(); }
        return ours;
    }

    // Inside the lock. True for exactly one caller per starving list.
    private bool RemoveStarved(ScatterGatherList list)
    {
        if (!list.Starving) { return false; }
        ScatterGatherList? before = null;
        for (ScatterGatherList? at = _firstStarved; at != list; at = at!.NextStarved) { before = at; }
        if (before is null) { _firstStarved = list.NextStarved; }
        else { before.NextStarved = list.NextStarved; }
        if (_lastStarved == list) { _lastStarved = before; }
        (list.Starving, list.NextStarved) = (false, null);
        return true;
    }
}
