namespace Sluice.Drivers.Nvme;

// What the watchdog and the controller's reset do to a queue pair.
internal sealed partial class NvmeQueuePair
{
    /// <summary>
    /// Whether this thread is taking completions: on a stepped machine, timers run inside the waits of a put.
    /// </summary>
    public bool IsBusyHere => _completing.IsHeldByCurrentThread;

    /// <summary>The queues exist and are empty: requests flow, unless all was given up meanwhile.</summary>
    public void Resume()
    {
        lock (_submitting)
        {
            if (_state == State.Paused) { _state = State.Running; }
        }
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
            foreach (NvmeSlot slot in _slots)
            {
                if (slot.State != NvmeSlotState.InFlight) { continue; }
                NvmeRequest request = TakeOver(slot);
                Unmap(slot);
                request.Finish(reason);
                if (slot.IsAborting) { continue; }
                lock (_submitting) { _free.Push(slot); }
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
            foreach (NvmeSlot slot in _slots)
            {
                if (slot.State != NvmeSlotState.InFlight) { continue; }
                TakeOver(slot).Finish(Dead()); // never pushed to the free stack again
            }
        }
        foreach (NvmeSlot slot in _slots) { EndWait(slot, olderThan: int.MinValue, Dead()); }
        FailWaiting();
    }

    private void FailWaiting()
    {
        while (true)
        {
            NvmeRequest? request = null;
            lock (_submitting)
            {
                if (!_parked.TryDequeue(out NvmeSlot? slot))
                {
                    request = _firstWaiting;
                    if (request is null) { return; }
                    (_firstWaiting, request.Next) = (request.Next, null);
                    if (_firstWaiting is null) { _lastWaiting = null; }
                }
                else
                {
                    (request, slot.Request) = (slot.Request, null);
                    _free.Push(slot);
                }
            }
            request!.Finish(Dead());
        }
    }

    /// <summary>
    /// Takes a command back that has waited for its list since before a turn of the watchdog, and answers it. One that
    /// is with the adapter for less long, or just gets its list, goes on.
    /// </summary>
    private void EndWait(NvmeSlot slot, int olderThan, Exception reason)
    {
        if (slot.State != NvmeSlotState.Mapping || !slot.Mapping.TryCancel()) { return; }
        // The wait is over, so the slot is this thread's; and it may have been the wait of a later command.
        if (olderThan != int.MinValue && slot.Tick >= olderThan) { Submit(slot); }
        else { Abandon(slot, reason); }
    }

    /// <summary>
    /// A turn of the watchdog: polls, so that a lost interrupt costs one turn, then looks for commands that take too
    /// long.
    /// </summary>
    /// <returns>The slot of a command to abort (until <see cref="EndAbort"/> it is not used again), or none.</returns>
    public NvmeSlot? Tick(out bool needsReset)
    {
        needsReset = false;
        Drain();
        NvmeSlot? expired = null;
        int oldest;
        lock (_completing)
        {
            Volatile.Write(ref _tick, _tick + 1);
            oldest = _tick - _limits.TimeoutTicks;
            foreach (NvmeSlot slot in _slots)
            {
                if (slot.State != NvmeSlotState.InFlight) { continue; }
                needsReset |= _tick - slot.Tick > _limits.ResetTicks;
                if (slot.Tick >= oldest || slot.WasAborted || expired is not null) { continue; }
                (slot.IsAborting, slot.WasAborted) = (true, true);
                expired = slot;
            }
        }
        foreach (NvmeSlot slot in _slots)
        {
            if (slot.State == NvmeSlotState.Mapping && slot.Tick < oldest) { EndWait(slot, oldest, Starved(slot)); }
        }
        Pump();
        return expired;
    }

    /// <summary>The abort command is answered: its target's slot may be used again, once the target is.</summary>
    public void EndAbort(NvmeSlot slot)
    {
        lock (_completing)
        {
            slot.IsAborting = false;
            if (slot.State == NvmeSlotState.InFlight) { return; }
            lock (_submitting) { _free.Push(slot); }
        }
        Pump();
    }

    private static NvmeException Starved(NvmeSlot slot) =>
        new(NvmeFailure.TimedOut, $"command {slot.Index} waited too long for DMA resources that others hold");

    /// <summary>Commands that the controller has.</summary>
    public int InFlight
    {
        get
        {
            int count = 0;
            lock (_completing)
            {
                foreach (NvmeSlot slot in _slots) { count += slot.State == NvmeSlotState.InFlight ? 1 : 0; }
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
