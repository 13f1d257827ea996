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

    private NtStatus Stage()
    {
        _state = State.Waiting;
        _current = NextLength();
        _begun = NtStatus.Success;
        NtStatus status;
        using (IrqlScheduler.Callback()) { status = _enabler.TakesLists ? StageList() : StagePacket(); }
        if (status.IsSuccess()) { status = _begun; }
        if (!status.IsSuccess()) { End(); }
        return status;
    }

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
        Adapter.InitializeDmaTransferContext(_context);
        ulong at = _start + _done;
        if (_buffer is not { } buffer)
        {
            return Adapter.GetScatterGatherListEx(
                _device, _context, _mdl!, at, _current, DmaFlags.None, Take, null, _write, null, null, null);
        }
        return Adapter.BuildScatterGatherListEx(
            _device, _context, _mdl!, at, _current, DmaFlags.None, Take, null, _write, buffer, null, null, null);
    }

    private void Take(WdmDeviceObject device, Irp? irp, ScatterGatherList list, object? context)
    {
        if (list.NumberOfElements == 0 || list.NumberOfElements > MostElements)
        {
            _begun = list.NumberOfElements == 0 ? NtStatus.DeviceNotConnected : NtStatus.WdfTooFragmented;
            Adapter.PutScatterGatherList(list, _write);
            End();
            return;
        }
        _list = list;
        Program(list);
    }

    private NtStatus StagePacket()
    {
        // A transaction keeps its channel from its first transfer to its last.
        if ((_reserved ?? _registers) is { } held)
        {
            Map(held);
            return _begun;
        }
        Adapter.InitializeDmaTransferContext(_context);
        int registers = DmaAdapter.CountMapRegisters(_mdl!, (uint)(_start + _done), _current);
        return Adapter.AllocateAdapterChannelEx(
            _device, _context, registers, DmaFlags.None, (_, _, granted, _) =>
            {
                Map(granted);
                return IoAllocationAction.KeepObject;
            }, null, null);
    }

    private void Map(MapRegisterBase registers)
    {
        _registers = registers;
        uint length = _current;
        NtStatus status = Adapter.MapTransferEx(
            _mdl!, registers, _start + _done, 0, ref length, _write, _buffer, null, null);
        if (!status.IsSuccess())
        {
            _begun = status;
            return;
        }
        (_isMapped, _current) = (true, length);
        Program(_buffer!.List);
    }

    // A callback that completes its transfer has the next one mapped at once, but programmed only when it has returned:
    // the stack is as deep for a million transfers as for one. A completion on another thread programs by itself.
    private void Program(ScatterGatherList list)
    {
        _state = State.Transferring;
        int me = Environment.CurrentManagedThreadId;
        if (Volatile.Read(ref _programmer) == me)
        {
            Volatile.Write(ref _next, list);
            return;
        }
        ExceptionDispatchInfo? thrown = null;
        for (ScatterGatherList? next = list; next is not null; next = Interlocked.Exchange(ref _next, null))
        {
            Volatile.Write(ref _programmer, me);
            try { _program!(this, _programContext, _write, next); }
            catch (Exception e) { thrown ??= ExceptionDispatchInfo.Capture(e); }
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
