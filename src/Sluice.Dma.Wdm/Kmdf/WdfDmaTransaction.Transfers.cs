using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;

namespace Sluice.Dma.Wdm;

// One transfer of a transaction: how much, how it is mapped, how it ends.
public sealed partial class WdfDmaTransaction
{
    private int MostElements =>
        _enabler.TakesLists ? _enabler.Config.MaximumScatterGatherElements : _enabler.IsSystem ? int.MaxValue : 1;

    // Whether the buffer is one run to the device, wherever its pages lie. Packets are cut to a run when mapped.
    private bool JoinsPages => !_enabler.TakesLists || (Adapter.Adapter.Capabilities.Coalesces && _mdl!.Next is null);

    /// <summary>
    /// WdfDmaTransactionAllocateResources: sets map registers aside for this transaction's transfers until
    /// <see cref="FreeResources"/>. For packet and system profiles.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    /// <param name="mapRegisters">How many; 0 for all.</param>
    /// <returns>Success; InvalidDeviceRequest: a profile with lists, or already set aside; InsufficientResources: not
    /// free now.</returns>
    public NtStatus AllocateResources(int mapRegisters = 0)
    {
        if (_enabler.TakesLists || _reserved is not null) { return NtStatus.InvalidDeviceRequest; }
        StrongBox<MapRegisterBase?> granted = new();
        NtStatus status = Adapter.InitializeDmaTransferContext(_context);
        if (!status.IsSuccess()) { return NtStatus.InvalidDeviceRequest; }
        using (IrqlScheduler.Callback())
        {
            status = Adapter.AllocateAdapterChannelEx(
                _device, _context, mapRegisters == 0 ? Adapter.NumberOfMapRegisters : mapRegisters,
                DmaFlags.SynchronousCallback, null, null, granted);
            if (status.IsSuccess())
            {
                Adapter.FreeAdapterObject(_device, IoAllocationAction.DeallocateObjectKeepRegisters);
            }
        }
        _reserved = granted.Value;
        return status;
    }

    /// <summary>WdfDmaTransactionFreeResources: gives them back. Harmless without any.</summary>
    /// <exception cref="InvalidOperationException">A transfer is mapped through them: they stay set aside.</exception>
    public void FreeResources()
    {
        if (_reserved is not { } reserved) { return; }
        using (IrqlScheduler.Callback()) { Adapter.FreeMapRegisters(reserved, reserved.NumberOfMapRegisters); }
        _reserved = null;
    }

    // Begins a transfer. What fails before this returns is its result; what fails later is told by a callback. Whoever
    // moves the state on from here ends it: this call, the callback in the transfer's turn, or a cancellation.
    private NtStatus Stage(TransactionStep from)
    {
        uint length = NextLength();
        if (!_state.TryStage(from, out long round))
        {
            return from == TransactionStep.Initialized ? NtStatus.InvalidDeviceRequest : NtStatus.Cancelled;
        }
        _current = length;
        (WdfDmaTransaction? transaction, long outerRound, NtStatus outer) = (_staged, _stagedRound, _stagedStatus);
        (_staged, _stagedRound, _stagedStatus) = (this, round, NtStatus.Success);
        NtStatus status;
        try
        {
            using (IrqlScheduler.Callback()) { status = _enabler.TakesLists ? StageList() : StagePacket(round); }
            if (status.IsSuccess()) { status = _stagedStatus; }
        }
        catch
        {
            // Thrown before anything was asked for, or by the callback of this very transfer.
            Refuse(round);
            throw;
        }
        finally { (_staged, _stagedRound, _stagedStatus) = (transaction, outerRound, outer); }
        if (!status.IsSuccess())
        {
            Refuse(round);
            return status;
        }
        // Who cancelled while the request was on its way found nothing to withdraw.
        bool waits = _state.TryMove(round, TransactionStep.Staging, TransactionStep.Waiting);
        if (!waits || !_state.IsCancelled || !TryWithdraw()) { return NtStatus.Success; }
        End(TransactionStep.Withdrawn);
        return NtStatus.Cancelled;
    }

    // By the call that staged it: its transfer never began.
    private void Refuse(long round)
    {
        bool ours = _state.Is(round, TransactionStep.Staging) || _state.Is(round, TransactionStep.Mapping);
        if (ours) { End(TransactionStep.Refused); }
    }

    // True: the callback of the request never runs, so whoever withdrew it ends the transaction.
    private bool TryWithdraw() =>
        _enabler.UsesVersion3 && Adapter.TryWithdraw(DdiFunction.CancelAdapterChannel, _context, out _);

    // Its turn came. False when it was withdrawn.
    private bool TryTakeTurn(out long round)
    {
        round = _state.Round;
        return _state.TryMove(round, TransactionStep.Staging, TransactionStep.Mapping)
            || _state.TryMove(round, TransactionStep.Waiting, TransactionStep.Mapping);
    }

    // Whether this thread is in the call that began a transfer, and will return what becomes of it.
    private bool IsStaging(long round) => _staged == this && _stagedRound == round;

    private DmaFlags Flags => _immediate ? DmaFlags.SynchronousCallback : DmaFlags.None;

    // What is left, what a transfer may have, and what the map registers hold.
    private uint NextLength()
    {
        uint length = Math.Min(_length - _done, _maximumLength);
        ulong at = _start + _done;
        // Where pages may not join, each is an element: the framework refuses such lists, we split them.
        int pages = JoinsPages ? Registers : Math.Min(Registers, MostElements);
        while (DmaAdapter.CountMapRegisters(_mdl!, (uint)at, length) > pages)
        {
            // Whole pages off the end; a chain of short parts may take several rounds, each at least halves the rest.
            length = length > 8192 ? Math.Max(length / 2, (uint)Math.Min(length - 1, (ulong)(pages - 1) << 12))
                : (length + 1) / 2;
        }
        return length;
    }

    private NtStatus StageList()
    {
        ulong at = _start + _done;
        if (!_enabler.UsesVersion3) { return StageListOfVersion2(_mdl!, at); }
        Adapter.InitializeDmaTransferContext(_context);
        if (_buffer is not { } buffer)
        {
            return Adapter.GetScatterGatherListEx(
                _device, _context, _mdl!, at, _current, Flags, Take, null, _write, null, null, null);
        }
        return Adapter.BuildScatterGatherListEx(
            _device, _context, _mdl!, at, _current, Flags, Take, null, _write, buffer, null, null, null);
    }

    // The functions without a context want a start in the first MDL of the chain they are given.
    private NtStatus StageListOfVersion2(Mdl mdl, ulong offset)
    {
        while (offset >= mdl.ByteCount) { (offset, mdl) = (offset - mdl.ByteCount, mdl.Next!); }
        VirtualAddress va = VirtualAddress.Of(mdl) + (uint)offset;
        return _buffer is not { } buffer
            ? Adapter.GetScatterGatherList(_device, mdl, va, _current, Take, null, _write)
            : Adapter.BuildScatterGatherList(_device, mdl, va, _current, Take, null, _write, buffer);
    }

    private void Take(WdmDeviceObject device, Irp? irp, ScatterGatherList list, object? context)
    {
        bool ours = TryTakeTurn(out long round);
        // The adapter may be put at any moment, and the list is over with it.
        bool removed = false;
        int elements = 0;
        try { elements = list.NumberOfElements; }
        catch (InvalidOperationException) when (IsRemoved) { removed = true; }
        if (ours && elements > 0 && elements <= MostElements)
        {
            _list = list;
            Program(list, round);
            return;
        }
        NtStatus why = removed ? DmaFailure.Disposed.ToStatus()
            : elements == 0 ? list.Refusal : NtStatus.WdfTooFragmented;
        try { Ends(list, () => Adapter.PutScatterGatherList(list, _write)); }
        finally
        {
            if (ours && IsStaging(round)) { _stagedStatus = why; }
            else if (ours) { Fail(why); }
        }
    }

    private NtStatus StagePacket(long round)
    {
        // A transaction keeps its channel from its first transfer to its last.
        if ((_reserved ?? _registers) is { } held)
        {
            _state.TryMove(round, TransactionStep.Staging, TransactionStep.Mapping);
            return Map(held, round);
        }
        Adapter.InitializeDmaTransferContext(_context);
        int registers = DmaAdapter.CountMapRegisters(_mdl!, (uint)(_start + _done), _current);
        return Adapter.AskForChannel(_device, _context, registers, Flags, Control, null, null, Drop);
    }

    private IoAllocationAction Control(WdmDeviceObject device, Irp? irp, MapRegisterBase granted, object? context)
    {
        if (!TryTakeTurn(out long round)) { return IoAllocationAction.DeallocateObject; }
        NtStatus why = Map(granted, round);
        if (why.IsSuccess()) { return IoAllocationAction.KeepObject; }
        // The channel goes back before anybody hears why, so that whoever hears may use it.
        _registers = null;
        if (IsStaging(round)) { _stagedStatus = why; }
        else { granted.Afterwards = () => Fail(why); }
        return IoAllocationAction.DeallocateObject;
    }

    // The adapter was put while the request for its channel waited.
    private void Drop()
    {
        if (TryTakeTurn(out _)) { Fail(DmaFailure.Disposed.ToStatus()); }
    }

    private NtStatus Map(MapRegisterBase registers, long round)
    {
        _registers = registers;
        if (!ConfigureChannel(round, out NtStatus configured)) { return configured; }
        uint length = _current;
        (DmaCompletionRoutine? completed, object? context) = BeginCompletion(round);
        NtStatus status;
        try
        {
            status = Adapter.MapTransferEx(
                _mdl!, registers, _start + _done, _deviceOffset, ref length, _write, _buffer, completed, context);
        }
        catch (Exception e) when (e is DmaException or ObjectDisposedException)
        {
            // A broken rule, or a buffer that is gone, is thrown in the driver's own call and nowhere else.
            if (IsStaging(round))
            {
                End(TransactionStep.Refused);
                throw;
            }
            status = e is DmaException { Failure: DmaFailure why } ? why.ToStatus() : NtStatus.AccessDenied;
        }
        // The registers went with the adapter, which was put meanwhile.
        catch (InvalidOperationException) when (IsRemoved) { status = DmaFailure.Disposed.ToStatus(); }
        if (!status.IsSuccess()) { return status; }
        (_isMapped, _current) = (true, length);
        Program(_buffer!.List, round);
        return NtStatus.Success;
    }

    // A callback that completes its transfer has the next one mapped at once, but programmed only when it has returned:
    // the stack is as deep for a million transfers as for one. A completion on another thread programs by itself.
    private void Program(ScatterGatherList list, long round)
    {
        int me = Environment.CurrentManagedThreadId;
        if (Volatile.Read(ref _programmer) == me)
        {
            Volatile.Write(ref _next, list);
            return;
        }
        ExceptionDispatchInfo? thrown = null;
        for (ScatterGatherList? next = list; next is not null;)
        {
            Volatile.Write(ref _programmer, me);
            _state.TryMove(round, TransactionStep.Mapping, TransactionStep.Transferring);
            try { _program!(this, _programContext, _write, next); }
            catch (Exception e) { thrown ??= ExceptionDispatchInfo.Capture(e); }
            try { EndProgramming(round); }
            catch (Exception e) { thrown ??= ExceptionDispatchInfo.Capture(e); }
            if (Interlocked.CompareExchange(ref _programmer, 0, me) != me) { break; }
            next = Interlocked.Exchange(ref _next, null);
            // What is mapped stays as it is until it is programmed, so this is its round.
            round = _state.Round;
        }
        thrown?.Throw();
    }

    // By whoever completes the transfer. All of it happens whatever is thrown. False when the adapter was put meanwhile
    // and what was mapped is a leak: the data may still lie in a copy.
    private bool EndTransfer(uint length)
    {
        EndCompletion();
        (ScatterGatherList? list, bool mapped, uint current) = (_list, _isMapped, _current);
        (_list, _isMapped) = (null, false);
        bool whole = true;
        try
        {
            using (IrqlScheduler.Callback())
            {
                if (list is not null)
                {
                    whole = Ends(list, () => Adapter.PutScatterGatherList(list, _write));
                }
                if (mapped)
                {
                    whole = Ends(_buffer!.List, () => Adapter.FlushAdapterBuffersEx(
                        _mdl!, _registers!, _start + _done, current, _write));
                }
            }
        }
        finally { (_done, _current) = (_done + length, 0); }
        return whole;
    }

    private bool Ends(ScatterGatherList list, Action end)
    {
        if (IsRemoved && !list.Lease.IsLive) { return false; }
        try
        {
            end();
            return true;
        }
        catch (Exception e) when (IsRemoved && e is InvalidOperationException or DmaException) { return false; }
    }

    private bool IsRemoved => Adapter.Adapter.IsReleased;

    // No transfer follows: what the transaction held for itself goes back. By whoever has it, and only then it is over.
    private void End(TransactionStep how)
    {
        MapRegisterBase? registers = _registers;
        _registers = null;
        try
        {
            if (registers is null || registers == _reserved || IsRemoved) { return; }
            using (IrqlScheduler.Callback()) { Adapter.FreeAdapterChannel(); }
        }
        catch (Exception e) when (IsRemoved && e is InvalidOperationException or DmaException) { }
        finally { _state.Set(how); }
    }

    private ScatterGatherBuffer NewBuffer(int elements) =>
        new(Adapter, ScatterGatherBuffer.BytesFor(Math.Min(elements, _enabler.TakesLists ? elements : MostElements)));
}
