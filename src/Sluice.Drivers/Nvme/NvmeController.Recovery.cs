namespace Sluice.Drivers.Nvme;

// The watchdog: abort, reset, give up; and the orderly end.
public sealed partial class NvmeController
{
    private const int WatchdogTurns = 8;

    /// <summary>A turn of the watchdog, on the platform's timer.</summary>
    private void Watch()
    {
        // A stepped machine runs timers inside waits, also inside ours: such a turn is skipped.
        if (_recovering.IsHeldByCurrentThread || _admin.IsBusyHere || Array.Exists(_queues, static q => q.IsBusyHere))
        {
            return;
        }
        lock (_recovering)
        {
            if (_isDead || _isDisposed) { return; }
            if (IsBlocked)
            {
                Die();
                return;
            }
            bool needsReset = NvmeRegisters.IsFatal(_registers.Status);
            foreach (NvmeQueuePair queue in _queues)
            {
                NvmeSlot? expired = queue.Tick(out bool isStuck);
                needsReset |= isStuck;
                if (expired is null) { continue; }
                if (!needsReset) { needsReset |= !TryAbort(expired); }
                queue.EndAbort(expired);
            }
            if (needsReset) { ResetController(); }
            else { _ = _admin.TryTakeEvent(_options.AdminTimeout, out _); }
        }
        // Who told of it meanwhile found this thread at work.
        if (IsBlocked) { OnDeviceBlocked(); }
    }

    /// <summary>
    /// The unit in front of the controller died: no answer of its comes through any more, and no reset brings that
    /// back. Whoever recovers or disposes at the moment, perhaps further down on this very thread, looks when done.
    /// </summary>
    private void OnDeviceBlocked()
    {
        if (_recovering.IsHeldByCurrentThread || !_recovering.TryEnter()) { return; }
        try
        {
            if (!_isDead && !_isDisposed) { Die(); }
        }
        finally
        {
            _recovering.Exit();
        }
    }

    private bool IsBlocked => _resources.Adapter.DeviceBlocked.IsCancellationRequested;

    private bool TryAbort(NvmeSlot slot)
    {
        Aborts++;
        NvmeCommand abort = new(NvmeCommand.Abort, 0)
        {
            Dword10 = (uint)slot.Queue.Id | ((uint)slot.CommandId << 16),
        };
        return _admin.TryExecute(abort, _options.AdminTimeout, out _, out _);
    }

    private void ResetController()
    {
        Resets++;
        foreach (NvmeQueuePair queue in _queues) { queue.Pause(); }
        if (!TryStop())
        {
            Die();
            return;
        }
        foreach (NvmeQueuePair queue in _queues)
        {
            queue.Reset(Interrupted("reset"));
        }
        try
        {
            EnableAdmin();
            _ = SetNumberOfQueues((uint)_queues.Length);
            foreach (NvmeQueuePair queue in _queues) { CreateQueue(queue); }
            _admin.RequestEvent();
            foreach (NvmeQueuePair queue in _queues) { queue.Resume(); }
        }
        catch (NvmeException)
        {
            Die();
        }
    }

    private static NvmeException Interrupted(string how) =>
        new(NvmeFailure.ControllerReset, $"the NVMe controller was {how} while the command was in flight");

    /// <summary>
    /// Clears CC.EN and waits until the controller says that it has stopped, hence does no DMA any more.
    /// </summary>
    /// <remarks>
    /// What a controller does when EN falls before RDY has followed it is undefined (NVM Express 1.4, 3.1.5): one that
    /// is still starting is waited for first, unless it fails meanwhile or takes longer than it said.
    /// </remarks>
    private bool TryStop()
    {
        if (_registers.IsEnabled)
        {
            for (Deadline start = Deadline.In(Platform.Clock, _registers.ReadyTimeout); ; start.Relax())
            {
                uint status = _registers.Status;
                if (NvmeRegisters.IsReady(status) || NvmeRegisters.IsFatal(status) || start.HasPassed) { break; }
            }
        }
        _registers.Disable();
        for (Deadline limit = Deadline.In(Platform.Clock, _registers.ReadyTimeout); ; limit.Relax())
        {
            uint status = _registers.Status;
            if (status == uint.MaxValue) { return false; }
            if (!NvmeRegisters.IsReady(status)) { return true; }
            if (limit.HasPassed) { return false; }
        }
    }

    private void Die()
    {
        Volatile.Write(ref _isDead, true);
        foreach (NvmeQueuePair queue in _queues) { queue.Kill(); }
    }

    /// <summary>
    /// Shuts the controller down: waits for what is in flight as long as a command may take, tells the controller to
    /// make its data stable, stops it, and gives the rings back. What still waits fails. Of a controller that does not
    /// stop, rings and buffers in flight stay with the adapter, which reports them when it is disposed. Harmless twice.
    /// </summary>
    public void Dispose()
    {
        _watchdog?.Dispose();
        _blocked.Dispose();
        lock (_recovering)
        {
            if (_isDisposed) { return; }
            _isDisposed = true;
            if (!_isDead)
            {
                Deadline limit = Deadline.In(Platform.Clock, _options.CommandTimeout);
                // Behind a unit that died nothing is answered any more.
                for (; InFlight > 0 && !IsBlocked && !limit.HasPassed; limit.Relax()) { Poll(); }
                foreach (NvmeQueuePair queue in _queues) { queue.Pause(); }
                ShutDown();
                if (TryStop())
                {
                    foreach (NvmeQueuePair queue in _queues)
                    {
                        queue.Reset(Interrupted("shut down"));
                    }
                    Die();
                    foreach (NvmeQueuePair queue in _queues) { queue.Dispose(); }
                    _admin.Dispose();
                }
                else
                {
                    Die();
                }
            }
        }
        foreach (IDisposable vector in _vectors) { vector.Dispose(); }
    }

    private void ShutDown()
    {
        if (!NvmeRegisters.IsReady(_registers.Status)) { return; }
        _registers.ShutDown();
        for (Deadline limit = Deadline.In(Platform.Clock, _registers.ReadyTimeout); !limit.HasPassed; limit.Relax())
        {
            uint status = _registers.Status;
            if (NvmeRegisters.IsFatal(status) || NvmeRegisters.HasShutDown(status)) { return; }
        }
    }
}
