namespace Sluice.Dma.Wdm;

/// <summary>
/// EVT_WDF_DMA_TRANSACTION_DMA_TRANSFER_COMPLETE: a transfer is over. At DISPATCH_LEVEL. The driver then completes it:
/// in here, or later.
/// </summary>
/// <param name="transaction">Whose transfer it was.</param>
/// <param name="device">The enabler's device.</param>
/// <param name="context">What <see cref="WdfDmaTransaction.SetTransferCompleteCallback"/> was given.</param>
/// <param name="writeToDevice">Whether the device reads.</param>
/// <param name="status">How it ended. Error and Cancelled may also mean that it never began.</param>
public delegate void WdfTransferComplete(
    WdfDmaTransaction transaction, WdmDeviceObject device, object? context, bool writeToDevice,
    DmaCompletionStatus status);

// How a transfer's end is told when no call can return it: the controller is done, or a transfer that waited cannot be
// mapped.
public sealed partial class WdfDmaTransaction
{
    // The call of this thread that begins a transfer, which transfer that is, and what the call will return. They are
    // the thread's: the transfer may be over, and the transaction used again by others, before the call has returned.
    [ThreadStatic]
    private static WdfDmaTransaction? _staged;

    [ThreadStatic]
    private static long _stagedRound;

    [ThreadStatic]
    private static NtStatus _stagedStatus;

    private WdfTransferComplete? _transferComplete;
    private object? _completeContext;

    // Where the transfer is on its way to its completion: the round, and three bits of Step.
    private long _step;

    private enum Step
    {
        None,

        // Mapped, not yet programmed: a completion waits until the driver has been told to program.
        Programming,

        // Programmed: a completion is told at once.
        Running,

        // Done while it was being programmed: this and the three after it, one for each status.
        Done = 4,
    }

    /// <summary>
    /// WdfDmaTransactionSetTransferCompleteCallback: who is told when the controller is done with a transfer (system
    /// profiles), and, in every profile, when a transfer that waited cannot be mapped in its turn.
    /// </summary>
    /// <remarks>
    /// After Initialize; Release forgets it. It runs once for each transfer, at DISPATCH_LEVEL, never before the
    /// transfer was programmed, and not for a transfer that was completed before. A transfer that cannot be mapped in
    /// its turn is told as Error, or Cancelled, without having been programmed: its transaction then holds nothing, and
    /// completing it (<see cref="DmaCompletedFinal"/> with 0, for one) ends it and says why. Without a callback such a
    /// transaction just ends. A callback set while a transfer waits may be too late for it.
    /// </remarks>
    /// <param name="callback">Who is told; null for nobody.</param>
    /// <param name="context">Handed to it.</param>
    public void SetTransferCompleteCallback(WdfTransferComplete? callback, object? context) =>
        (_transferComplete, _completeContext) = (callback, context);

    // By who had its turn: nobody's call will return it.
    private void Fail(NtStatus why)
    {
        (_failed, _current) = (why, 0);
        if (_transferComplete is null)
        {
            End(TransactionStep.Refused);
            return;
        }
        _state.Set(TransactionStep.Transferring);
        Tell(why == NtStatus.Cancelled ? DmaCompletionStatus.Cancelled : DmaCompletionStatus.Error);
    }

    private void Tell(DmaCompletionStatus status)
    {
        using (IrqlScheduler.Callback())
        {
            _transferComplete?.Invoke(this, Adapter.Device, _completeContext, _write, status);
        }
    }

    // What the controller is to call when it is done.
    private (DmaCompletionRoutine? Routine, object? Context) BeginCompletion(long round)
    {
        if (!_enabler.IsSystem || _transferComplete is null) { return default; }
        Volatile.Write(ref _step, At(round, Step.Programming));
        return ((_, _, of, status) => OnDone((long)of!, status), round);
    }

    private void OnDone(long round, DmaCompletionStatus status)
    {
        long programming = At(round, Step.Programming), running = At(round, Step.Running);
        if (Interlocked.CompareExchange(ref _step, At(round, Step.Done + (int)status), programming) == programming)
        {
            return;
        }
        if (Interlocked.CompareExchange(ref _step, 0, running) == running) { Tell(status); }
    }

    // The driver has programmed the transfer. By now another may be on its way.
    private void EndProgramming(long round)
    {
        if (!_enabler.IsSystem) { return; }
        long programming = At(round, Step.Programming);
        long seen = Interlocked.CompareExchange(ref _step, At(round, Step.Running), programming);
        if (seen >> 3 != round || (seen & (long)Step.Done) == 0) { return; }
        if (Interlocked.CompareExchange(ref _step, 0, seen) == seen)
        {
            Tell((DmaCompletionStatus)(seen & ~(long)Step.Done & 7));
        }
    }

    // The driver completed the transfer: stopping the controller is no news.
    private void EndCompletion()
    {
        if (_enabler.IsSystem) { Interlocked.Exchange(ref _step, 0); }
    }

    private static long At(long round, Step step) => (round << 3) | (long)step;
}
