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
    public void FreeResources()
    {
        if (_reserved is not { } reserved) { return; }
        _reserved = null;
        using (IrqlScheduler.Callback()) { Adapter.FreeMapRegisters(reserved, reserved.NumberOfMapRegisters); }
    }

    // Begins a transfer. What fails before this returns is its result; what fails later is told by a callback.
    private NtStatus Stage()
    {
        (_state, _current) = (State.Waiting, NextLength());
        (WdfDmaTransaction? transaction, long round, NtStatus outer) = (_staged, _stagedRound, _stagedStatus);
        (_staged, _stagedRound, _stagedStatus) = (this, ++_round, NtStatus.Success);
        NtStatus status;
        try
        {
            using (IrqlScheduler.Callback()) { status = _enabler.TakesLists ? StageList() : StagePacket(); }
            if (status.IsSuccess()) { status = _stagedStatus; }
        }
        finally { (_staged, _stagedRound, _stagedStatus) = (transaction, round, outer); }
        if (!status.IsSuccess()) { End(); }
        return status;
    }

    // Whether this thread is in the call that began the present transfer, and will return what becomes of it.
    private bool IsStaging => _staged == this && _stagedRound == _round;

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
        int elements = list.NumberOfElements;
        if (elements > 0 && elements <= MostElements)
        {
            _list = list;
            Program(list, _round);
            return;
        }
        NtStatus why = elements == 0 ? list.Refusal : NtStatus.WdfTooFragmented;
        bool inCall = IsStaging;
        Adapter.PutScatterGatherList(list, _write);
        if (inCall) { _stagedStatus = why; }
        else { Fail(why); }
    }

    private NtStatus StagePacket()
    {
        // A transaction keeps its channel from its first transfer to its last.
        if ((_reserved ?? _registers) is { } held) { return Map(held); }
        Adapter.InitializeDmaTransferContext(_context);
        int registers = DmaAdapter.CountMapRegisters(_mdl!, (uint)(_start + _done), _current);
        return Adapter.AllocateAdapterChannelEx(_device, _context, registers, Flags, Control, null, null);
    }

    private IoAllocationAction Control(WdmDeviceObject device, Irp? irp, MapRegisterBase granted, object? context)
    {
        NtStatus why = Map(granted);
        if (why.IsSuccess()) { return IoAllocationAction.KeepObject; }
        // The channel goes back before anybody hears why, so that whoever hears may use it.
        _registers = null;
        if (IsStaging) { _stagedStatus = why; }
        else { granted.Afterwards = () => Fail(why); }
        return IoAllocationAction.DeallocateObject;
    }

    private NtStatus Map(MapRegisterBase registers)
    {
        long round = _round;
        _registers = registers;
        if (!ConfigureChannel()) { return NtStatus.Success; }
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
            if (IsStaging)
            {
                End();
                throw;
            }
            status = e is DmaException { Failure: DmaFailure why } ? why.ToStatus() : NtStatus.AccessDenied;
        }
        if (!status.IsSuccess()) { return status; }
        (_isMapped, _current) = (true, length);
        Program(_buffer!.List, round);
        return NtStatus.Success;
    }

    // A callback that completes its transfer has the next one mapped at once, but programmed only when it has returned:
    // the stack is as deep for a million transfers as for one. A completion on another thread programs by itself.
    private void Program(ScatterGatherList list, long round)
    {
        _state = State.Transferring;
        int me = Environment.CurrentManagedThreadId;
        if (Volatile.Read(ref _programmer) == me)
        {
            _nextRound = round;
            Volatile.Write(ref _next, list);
            return;
        }
        ExceptionDispatchInfo? thrown = null;
        for (ScatterGatherList? next = list; next is not null; next = Interlocked.Exchange(ref _next, null))
        {
            Volatile.Write(ref _programmer, me);
            try { _program!(this, _programContext, _write, next); }
            catch (Exception e) { thrown ??= ExceptionDispatchInfo.Capture(e); }
            try { EndProgramming(round); }
            catch (Exception e) { thrown ??= ExceptionDispatchInfo.Capture(e); }
            // Written before the list it belongs to.
            round = _nextRound;
            if (Interlocked.CompareExchange(ref _programmer, 0, me) != me) { break; }
        }
        thrown?.Throw();
    }

    private void EndTransfer(uint length)
    {
        if (_state != State.Transferring || Volatile.Read(ref _next) is not null)
        {
            throw new InvalidOperationException(
                "a DMA transaction completes a transfer that it does not have in flight");
        }
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, _current);
        EndCompletion();
        using (IrqlScheduler.Callback())
        {
            if (_list is { } list)
            {
                _list = null;
                Adapter.PutScatterGatherList(list, _write);
            }
            if (_isMapped)
            {
                _isMapped = false;
                Adapter.FlushAdapterBuffersEx(_mdl!, _registers!, _start + _done, _current, _write);
            }
        }
        (_done, _current) = (_done + length, 0);
    }

    // No transfer follows: what the transaction held for itself goes back.
    private void End()
    {
        _state = State.Ended;
        if (_registers is not { } registers) { return; }
        _registers = null;
        if (registers == _reserved) { return; }
        using (IrqlScheduler.Callback()) { Adapter.FreeAdapterChannel(); }
    }

    private ScatterGatherBuffer NewBuffer(int elements) =>
        new(Adapter, ScatterGatherBuffer.BytesFor(Math.Min(elements, _enabler.TakesLists ? elements : MostElements)));
}
