namespace Sluice.Dma.Wdm;

/// <summary>
/// EVT_WDF_PROGRAM_DMA: the driver tells the device of one transfer. At DISPATCH_LEVEL. False when it could not; the
/// driver then completes the transfer with no bytes, or cancels.
/// </summary>
/// <param name="transaction">Whose transfer it is.</param>
/// <param name="context">What <see cref="WdfDmaTransaction.Execute"/> was given.</param>
/// <param name="writeToDevice">Whether the device reads.</param>
/// <param name="list">What to tell the device.</param>
public delegate bool WdfProgramDma(
    WdfDmaTransaction transaction, object? context, bool writeToDevice, ScatterGatherList list);

/// <summary>
/// WDFDMATRANSACTION: one I/O, split into as many transfers as map registers and device demand. The driver programs
/// the device when it is told to, and reports when the device is done; all else is done here.
/// </summary>
/// <remarks>
/// Made once and used again: initialize, execute, complete each transfer until that says true, release. One thread sets
/// it up at a time, as the framework's own. Completing, cancelling, stopping and the end of the enabler may come from
/// any threads at once, and inside the callbacks: each transfer is completed once, and exactly one of them says that
/// the transaction is over (a completion or <see cref="Execute"/> by its answer, <see cref="Cancel"/> by true), or, of
/// one that could not be mapped in its turn and has no transfer-complete callback, nobody does.
/// </remarks>
public sealed partial class WdfDmaTransaction
{
    private readonly WdfDmaEnabler _enabler;
    private readonly DmaTransferContext _context = new();
    private readonly WdmDeviceObject _device;

    // Who may touch the rest: the owner of the step it is at.
    private TransactionState _state;

    private WdfProgramDma? _program;
    private object? _programContext;
    private Mdl? _mdl;
    private ulong _start;
    private uint _length;
    private uint _done;
    private uint _current;
    private uint _maximumLength;
    private bool _write;
    private bool _single;

    // What the transfer in flight holds.
    private ScatterGatherList? _list;
    private ScatterGatherBuffer? _buffer;
    private MapRegisterBase? _registers;
    private bool _isMapped;
    private MapRegisterBase? _reserved;

    // Why the transfer whose turn came could not be mapped, until the driver has ended it.
    private NtStatus _failed;

    // The thread inside the callback, and what was mapped for it to program next.
    private int _programmer;
    private ScatterGatherList? _next;

    /// <summary>WdfDmaTransactionCreate.</summary>
    public WdfDmaTransaction(WdfDmaEnabler enabler)
    {
        ArgumentNullException.ThrowIfNull(enabler);
        _enabler = enabler;
        _single = enabler.Config.RequireSingleTransfer;
        _maximumLength = enabler.MaximumLength;
        // Every transaction waits for itself alone.
        _device = new(enabler.Adapter.Device.PhysicalDevice, enabler.Adapter.Device.Driver);
        if (!enabler.Config.NoListPreallocation || !enabler.TakesLists) { _buffer = NewBuffer(Registers); }
    }

    /// <summary>WdfDmaTransactionGetBytesTransferred: bytes of all transfers that were completed.</summary>
    public uint BytesTransferred => _done;

    /// <summary>WdfDmaTransactionGetCurrentDmaTransferLength: bytes of the transfer in flight.</summary>
    public uint CurrentTransferLength => _current;

    private WdmAdapter Adapter => _enabler.Adapter;

    private int Registers => _reserved?.NumberOfMapRegisters ?? Adapter.NumberOfMapRegisters;

    /// <summary>WdfDmaTransactionSetMaximumLength: the most bytes of one transfer of this transaction alone.</summary>
    /// <param name="length">Bytes, 1 to the enabler's.</param>
    public void SetMaximumLength(uint length)
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        _maximumLength = Math.Min(length, _enabler.MaximumLength);
    }

    /// <summary>WdfDmaTransactionSetSingleTransferRequirement: whether this transaction must not be split.</summary>
    /// <exception cref="InvalidOperationException">The enabler uses DMA version 2.</exception>
    public void SetSingleTransferRequirement(bool required)
    {
        ThrowWithoutVersion3();
        _single = required;
    }

    /// <summary>WdfDmaTransactionInitializeUsingRequest: for the buffer of an I/O request.</summary>
    /// <returns>As <see cref="Initialize(WdfProgramDma, bool, Mdl, ulong, uint)"/>; InvalidParameter without a
    /// buffer.</returns>
    public NtStatus Initialize(WdfProgramDma program, bool writeToDevice, Irp request)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (request.Mdl is not { } mdl || mdl.ChainByteCount > uint.MaxValue) { return NtStatus.InvalidParameter; }
        NtStatus status = Initialize(program, writeToDevice, mdl, 0, (uint)mdl.ChainByteCount);
        if (status.IsSuccess()) { Request = request; }
        return status;
    }

    /// <summary>WdfDmaTransactionInitializeUsingOffset: makes it ready for an I/O.</summary>
    /// <param name="program">Programs the device, once for each transfer.</param>
    /// <param name="writeToDevice">Whether the device reads.</param>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1, more than a transfer's if need be.</param>
    /// <returns>Success; InvalidParameter: a bad range, or one that passes the chain's first 4 GiB;
    /// InvalidDeviceRequest: it is in use; and when one transfer is required: WdfTooManyTransfers: longer than a
    /// transfer; WdfNotEnoughMapRegisters; WdfTooFragmented: more elements than the device takes.</returns>
    public NtStatus Initialize(WdfProgramDma program, bool writeToDevice, Mdl mdl, ulong offset, uint length)
    {
        ArgumentNullException.ThrowIfNull(program);
        ArgumentNullException.ThrowIfNull(mdl);
        if (!_state.IsIdle) { return NtStatus.InvalidDeviceRequest; }
        NtStatus status = Adapter.GetDmaTransferInfo(mdl, offset, length, writeToDevice, 1, out DmaTransferInfo info);
        if (!status.IsSuccess()) { return status; }
        // Every transfer names its first byte with 32 bits.
        if (offset + length > 1UL << 32) { return NtStatus.InvalidParameter; }
        if (_single)
        {
            // A unit joins pages into one element; where nothing does, each page may be one.
            int elements = Adapter.Adapter.Capabilities.Coalesces ? 1 : info.ScatterGatherElementCount;
            if (length > _maximumLength) { return NtStatus.WdfTooManyTransfers; }
            if (info.MapRegisterCount > Registers) { return NtStatus.WdfNotEnoughMapRegisters; }
            if (elements > MostElements) { return NtStatus.WdfTooFragmented; }
        }
        (_program, _write, _mdl, _start, _length) = (program, writeToDevice, mdl, offset, length);
        (_done, _current) = (0, 0);
        (_failed, _deviceOffset, _info, Request) = (NtStatus.Success, 0, info, null);
        // The registers that are set aside outlive the I/O that was stopped.
        if (_reserved is not null) { _context.Renew(); }
        _state.Set(TransactionStep.Initialized, forgetCancel: true);
        return NtStatus.Success;
    }

    /// <summary>WdfDmaTransactionExecute: begins the first transfer.</summary>
    /// <remarks>
    /// At DISPATCH_LEVEL or below. The callback runs before this returns, or when map registers are free. When the
    /// transfer cannot be mapped then, the callback of <see cref="SetTransferCompleteCallback"/> runs instead.
    /// </remarks>
    /// <param name="context">Handed to the callback.</param>
    /// <returns>Success; InvalidDeviceRequest: not initialized; WdfTooFragmented: more elements than the device takes;
    /// InsufficientResources: to be executed immediately, and not free now; Cancelled: by <see cref="Cancel"/>, while
    /// it was begun; or why the transfer cannot be mapped. The transaction is over after an error, and after an
    /// exception that came before <paramref name="context"/> reached the callback. What the callback itself throws
    /// leaves its transfer in flight, to be completed.</returns>
    public NtStatus Execute(object? context)
    {
        if (_state.Step != TransactionStep.Initialized) { return NtStatus.InvalidDeviceRequest; }
        _programContext = context;
        return Stage(TransactionStep.Initialized);
    }

    /// <summary>WdfDmaTransactionDmaCompleted: the device did the whole transfer.</summary>
    /// <param name="status">MoreProcessingRequired: the next transfer was begun. Success: all is done. Cancelled: it
    /// was cancelled meanwhile. WdfTooManyTransfers: bytes are left, and one transfer was required. Else: why the next
    /// transfer, or the one whose turn had come, cannot be mapped.</param>
    /// <returns>True when the transaction is over.</returns>
    /// <exception cref="InvalidOperationException">No transfer is in flight.</exception>
    public bool DmaCompleted(out NtStatus status) => Complete(null, final: false, out status);

    /// <summary>
    /// WdfDmaTransactionDmaCompletedWithLength: the device did so much of the transfer; what it left is tried again.
    /// </summary>
    /// <param name="length">Bytes, at most <see cref="CurrentTransferLength"/>.</param>
    /// <param name="status">As <see cref="DmaCompleted"/>.</param>
    /// <returns>True when the transaction is over.</returns>
    /// <exception cref="InvalidOperationException">No transfer is in flight.</exception>
    public bool DmaCompletedWithLength(uint length, out NtStatus status) =>
        Complete(length, final: false, out status);

    /// <summary>WdfDmaTransactionDmaCompletedFinal: the device did so much, and there is no more to come.</summary>
    /// <param name="length">Bytes, at most <see cref="CurrentTransferLength"/>.</param>
    /// <param name="status">Success; WdfTooManyTransfers when one transfer was required and bytes are left; or why the
    /// transfer whose turn had come cannot be mapped.</param>
    /// <returns>True: the transaction is over.</returns>
    /// <exception cref="InvalidOperationException">No transfer is in flight.</exception>
    public bool DmaCompletedFinal(uint length, out NtStatus status) => Complete(length, final: true, out status);

    // Whoever takes the transfer completes it; a second one finds none in flight. What is thrown while it ends is
    // thrown when it has ended, and the transaction with it.
    private bool Complete(uint? length, bool final, out NtStatus status)
    {
        if (!_state.TryMove(TransactionStep.Transferring, TransactionStep.Completing, out long round))
        {
            throw new InvalidOperationException(
                "a DMA transaction completes a transfer that it does not have in flight");
        }
        uint done = length ?? _current;
        if (done > _current)
        {
            uint most = _current;
            _state.Set(TransactionStep.Transferring);
            throw new ArgumentOutOfRangeException(
                nameof(length), $"{done} bytes of a transfer of {most} are said to be done");
        }
        try
        {
            bool whole = EndTransfer(done);
            status = !_failed.IsSuccess() ? _failed
                : !whole ? DmaFailure.Disposed.ToStatus()
                : final ? (_single && _done != _length ? NtStatus.WdfTooManyTransfers : NtStatus.Success)
                : _done == _length ? NtStatus.Success
                : _state.IsCancelled ? NtStatus.Cancelled
                : _single ? NtStatus.WdfTooManyTransfers
                : NtStatus.MoreProcessingRequired;
            if (status == NtStatus.MoreProcessingRequired)
            {
                NtStatus next = Stage(TransactionStep.Completing);
                if (next.IsSuccess()) { return false; }
                // That call has ended it, unless it found it cancelled.
                status = next;
                if (!_state.Is(round, TransactionStep.Completing)) { return true; }
            }
        }
        catch
        {
            if (_state.Is(round, TransactionStep.Completing)) { End(TransactionStep.Refused); }
            throw;
        }
        End(TransactionStep.Completed);
        return true;
    }

    /// <summary>WdfDmaTransactionCancel: withdraws the transfer that waits for map registers.</summary>
    /// <remarks>At DISPATCH_LEVEL or below. DMA version 2 has no way to withdraw anything.</remarks>
    /// <returns>True: the callback will not run, and the transaction is over. False: it is over already; or a transfer
    /// is in flight, or about to be, and the next completion says cancelled unless it is the last; or a call begins one
    /// just now, and says Cancelled instead.</returns>
    public bool Cancel()
    {
        if (!_state.TryCancel(out TransactionStep step)) { return false; }
        if (step is not (TransactionStep.Staging or TransactionStep.Waiting) || !TryWithdraw()) { return false; }
        End(TransactionStep.Withdrawn);
        return true;
    }

    /// <summary>WdfDmaTransactionStopSystemTransfer: stops the controller; the transfer is then completed with what it
    /// did. It ends this I/O; the next, through the same map registers, is not stopped. Of an I/O that is over it stops
    /// nothing.</summary>
    public void StopSystemTransfer()
    {
        if (_state.TryCancel(out _) && _enabler.IsSystem) { Adapter.CancelMappedTransfer(_device, _context); }
    }

    /// <summary>
    /// WdfDmaTransactionRelease: ready for another I/O. It forgets what was set for this one: callbacks, the offset,
    /// and that it is to be executed immediately.
    /// </summary>
    /// <exception cref="InvalidOperationException">A transfer is in flight, or waits.</exception>
    public void Release()
    {
        if (!_state.IsIdle)
        {
            throw new InvalidOperationException("a DMA transaction is released while a transfer of it is in flight");
        }
        (_mdl, _program, _programContext, Request) = (null, null, null, null);
        (_transferComplete, _completeContext, _configureChannel, _configureContext) = (null, null, null, null);
        (_deviceOffset, _immediate) = (0, false);
        _state.Set(TransactionStep.Created);
    }
}
