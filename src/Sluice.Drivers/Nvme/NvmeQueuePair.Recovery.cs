namespace Sluice.Drivers.Nvme;

// What the watchdog and the controller's reset do to a queue pair.
internal sealed partial class NvmeQueuePair
{
    /// <summary>The queues exist and are empty: requests flow.</summary>
    public void Resume()
    {
        lock (_submitting) { _state = State.Running; }
        Pump();
    }

    /// <summary>No command is submitted from now on; requests wait.</summary>
    public void Pause()
    {
        lock (_submitting)
        {
            if (_state == State.Running) { _state = State.Paused; }
        }
    }

    /// <summary>
    /// The controller has stopped, hence does no DMA any more: unmaps and answers everything in flight, and makes the
    /// rings as new.
    /// </summary>
    public void Reset(Exception reason)
    {
        lock (_completing)
        {
            for (int id = 0; id < _slots.Length; id++)
            {
                ref Slot slot = ref _slots[id];
                if (slot.State != SlotState.InFlight) { continue; }
                NvmeRequest request = slot.Request!;
                Unmap(ref slot);
                (slot.Request, slot.State) = (null, SlotState.Idle);
                request.Finish(reason);
                if (slot.IsAborting) { continue; }
                lock (_submitting) { _free.Push(id); }
            }
            _completions.Clear();
            (_head, _phase) = (0, true);
            lock (_submitting) { _tail = 0; }
        }
    }

    /// <summary>
    /// The controller does not answer and perhaps still does DMA: everything fails, and what is in flight stays mapped,
    /// to be reported and kept out of circulation when the adapter is disposed.
    /// </summary>
    public void Kill()
    {
        lock (_submitting) { _state = State.Dead; }
        lock (_completing)
        {
            foreach (ref Slot slot in _slots.AsSpan())
            {
                if (slot.State != SlotState.InFlight) { continue; }
                NvmeRequest request = slot.Request!;
                (slot.Request, slot.State) = (null, SlotState.Idle); // never pushed to the free stack again
                request.Finish(Dead());
            }
        }
        FailWaiting();
    }

    private void FailWaiting()
    {
        while (true)
        {
            NvmeRequest? request;
            int id;
            lock (_submitting)
            {
                if (_parked.TryPop(out id)) { request = null; }
                else
                {
                    request = _firstWaiting;
                    if (request is null) { return; }
                    (_firstWaiting, request.Next) = (request.Next, null);
                    if (_firstWaiting is null) { _lastWaiting = null; }
                }
            }
            if (request is null) { Abandon(id, Dead()); }
            else { request.Finish(Dead()); }
        }
    }

    /// <summary>
    /// A turn of the watchdog: polls, so that a lost interrupt costs one turn, then looks for commands that take too
    /// long.
    /// </summary>
    /// <returns>The slot of a command to abort (until <see cref="EndAbort"/> it is not used again), or −1.</returns>
    public int Tick(out bool needsReset)
    {
        needsReset = false;
        Drain();
        Pump();
        int expired = -1;
        lock (_completing)
        {
            Volatile.Write(ref _tick, _tick + 1);
            for (int id = 0; id < _slots.Length; id++)
            {
                ref Slot slot = ref _slots[id];
                if (slot.State != SlotState.InFlight) { continue; }
                int age = _tick - slot.Tick;
                needsReset |= age > _limits.ResetTicks;
                if (age <= _limits.TimeoutTicks || slot.WasAborted || expired >= 0) { continue; }
                (slot.IsAborting, slot.WasAborted) = (true, true);
                expired = id;
            }
        }
        return expired;
    }

    /// <summary>The abort command is answered: its target's slot may be used again, once the target is.</summary>
    public void EndAbort(int id)
    {
        lock (_completing)
        {
            _slots[id].IsAborting = false;
            if (_slots[id].State == SlotState.InFlight) { return; }
            lock (_submitting) { _free.Push(id); }
        }
        Pump();
    }

    /// <summary>Commands that the controller has.</summary>
    public int InFlight
    {
        get
        {
            int count = 0;
            lock (_completing)
            {
                foreach (ref readonly Slot slot in _slots.AsSpan())
                {
                    count += slot.State == SlotState.InFlight ? 1 : 0;
                }
            }
            return count;
        }
    }

    /// <summary>Gives the rings back; only when the controller has stopped.</summary>
    public void Dispose()
    {
        lock (_completing) { Volatile.Write(ref _isClosed, true); }
        _submissions.Dispose();
        _completions.Dispose();
        _lists.Dispose();
    }
}
