namespace Sluice.Dma.Wdm;

// Rows 11 to 15: lists. All are one request of the adapter below; they differ in whose memory the list lies in.
public sealed partial class WdmAdapter
{
    private static readonly ScatterGatherCallback ListGranted =
        static (lease, failure, state) =>
        {
            var list = (ScatterGatherList)state!;
            list.Adapter.Granted(list, lease, failure);
        };

    // The request that the calling thread is making, and what the call will return. It is the thread's and not the
    // list's: another thread may serve the list, put it and ask again in its memory before this call has returned.
    [ThreadStatic]
    private static ListCall _call;

    /// <summary>
    /// GetScatterGatherList: makes a buffer reachable for the device and calls back with the list of its logical
    /// addresses, now or when map registers are free. Any number may be outstanding.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL. The list is the driver's until <see cref="PutScatterGatherList"/>.</remarks>
    /// <param name="device">Whose current IRP the callback gets.</param>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="currentVa">Where in the first MDL it starts.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="executionRoutine">Takes the list; exactly once after success.</param>
    /// <param name="context">Handed to it.</param>
    /// <param name="writeToDevice">Whether the device reads.</param>
    /// <returns>Success; InsufficientResources: more map registers than were granted, or what no waiting cures;
    /// BufferTooSmall: the chain ends before; InvalidParameter: no byte, or a start outside the first MDL;
    /// AccessDenied; DeviceNotConnected. The callback never runs after an error.</returns>
    public NtStatus GetScatterGatherList(
        WdmDeviceObject device, Mdl mdl, VirtualAddress currentVa, uint length, DriverListControl executionRoutine,
        object? context, bool writeToDevice)
    {
        Enter(DdiFunction.GetScatterGatherList);
        ArgumentNullException.ThrowIfNull(executionRoutine);
        Verify(DdiFunction.GetScatterGatherList, mdl, currentVa, length);
        NtStatus status = Locate(mdl, currentVa, length, out uint offset, out _);
        if (!status.IsSuccess()) { return status; }
        ScatterGatherList list = NewList();
        Ask(list, device, mdl, offset, length, writeToDevice);
        (list.Routine, list.Context) = (executionRoutine, context);
        return Begin(list);
    }

    /// <summary>
    /// BuildScatterGatherList: as <see cref="GetScatterGatherList"/>, in memory of the driver's own. Allocates nothing,
    /// not even when it waits.
    /// </summary>
    /// <remarks>
    /// At DISPATCH_LEVEL. When the machine has no memory left for tables, one such request at a time still goes
    /// through, and the others wait for it in order.
    /// </remarks>
    /// <param name="device">Whose current IRP the callback gets.</param>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="currentVa">Where in the first MDL it starts.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="executionRoutine">Takes the list; exactly once after success.</param>
    /// <param name="context">Handed to it.</param>
    /// <param name="writeToDevice">Whether the device reads.</param>
    /// <param name="buffer">The driver's memory; in use until the list is put.</param>
    /// <returns>As <see cref="GetScatterGatherList"/>, and BufferTooSmall when <paramref name="buffer"/> is less than
    /// <see cref="CalculateScatterGatherListSize"/> said.</returns>
    /// <exception cref="InvalidOperationException">The buffer holds a list already.</exception>
    public NtStatus BuildScatterGatherList(
        WdmDeviceObject device, Mdl mdl, VirtualAddress currentVa, uint length, DriverListControl executionRoutine,
        object? context, bool writeToDevice, ScatterGatherBuffer buffer)
    {
        Enter(DdiFunction.BuildScatterGatherList);
        ArgumentNullException.ThrowIfNull(executionRoutine);
        Verify(DdiFunction.BuildScatterGatherList, mdl, currentVa, length);
        NtStatus status = Locate(mdl, currentVa, length, out uint offset, out int registers);
        if (status.IsSuccess()) { status = Claim(DdiFunction.BuildScatterGatherList, buffer, registers); }
        if (!status.IsSuccess()) { return status; }
        Ask(buffer.List, device, mdl, offset, length, writeToDevice);
        (buffer.List.Routine, buffer.List.Context) = (executionRoutine, context);
        return Begin(buffer.List);
    }

    /// <summary>
    /// CalculateScatterGatherListSize: how much memory of the driver's own a list takes, all that the DDI keeps
    /// included.
    /// </summary>
    /// <remarks>At any level.</remarks>
    /// <param name="mdl">The buffer; null for the worst buffer of that length.</param>
    /// <param name="currentVa">Where in the first MDL it starts; without one it says nothing.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="size">Bytes for <see cref="ScatterGatherBuffer"/>; 0 after an error.</param>
    /// <param name="numberOfMapRegisters">Pages the transfer touches; 0 after an error.</param>
    /// <returns>Success; InsufficientResources: more map registers than were granted; BufferTooSmall: the chain ends
    /// before; InvalidParameter.</returns>
    public NtStatus CalculateScatterGatherListSize(
        Mdl? mdl, VirtualAddress currentVa, uint length, out int size, out int numberOfMapRegisters)
    {
        Enter(DdiFunction.CalculateScatterGatherListSize);
        size = 0;
        NtStatus status;
        if (mdl is not null) { status = Locate(mdl, currentVa, length, out _, out numberOfMapRegisters); }
        else
        {
            // A chain of one-byte MDLs takes a register for each byte; more than were granted never get this far.
            status = length == 0 ? NtStatus.InvalidParameter
                : (length + 4095UL) >> 12 > (ulong)NumberOfMapRegisters ? NtStatus.InsufficientResources
                : NtStatus.Success;
            numberOfMapRegisters = (int)Math.Min(length, (uint)NumberOfMapRegisters);
        }
        if (status.IsSuccess()) { size = ScatterGatherBuffer.BytesFor(numberOfMapRegisters); }
        else { numberOfMapRegisters = 0; }
        return status;
    }

    /// <summary>
    /// PutScatterGatherList: flushes, and ends the device's reach. Only then may the processor look at the data.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL. A list without elements may be put or forgotten.</remarks>
    /// <param name="list">The list; it is nobody's afterwards, and its buffer the driver's again.</param>
    /// <param name="writeToDevice">As it was got.</param>
    /// <exception cref="InvalidOperationException">It was already put, is another adapter's, or goes the other
    /// way.</exception>
    public void PutScatterGatherList(ScatterGatherList list, bool writeToDevice)
    {
        Enter(DdiFunction.PutScatterGatherList);
        ArgumentNullException.ThrowIfNull(list);
        VerifyPut(list, writeToDevice);
        if (list.Adapter != this || (list.Lease != default && list.Direction != Direction(writeToDevice)))
        {
            throw new InvalidOperationException(list.Adapter != this
                ? $"{Driver} put a list of {list.Adapter.Driver}"
                : $"{Driver} got a list {list.Direction} and put it {Direction(writeToDevice)}");
        }
        if (list.Lease == default) { return; }
        bool done = false;
        try
        {
            Adapter.PutScatterGatherList(list.Lease, nameof(PutScatterGatherList), Driver);
            done = true;
        }
        // A list that was put before is nobody's to end. All else is told when the list is put.
        catch (Exception e) when (e is DmaViolationException broken ? broken.CallWasDone
            : e is not InvalidOperationException)
        {
            done = true;
            throw;
        }
        finally
        {
            if (done)
            {
                Finish(list);
                ServeStarved();
            }
        }
    }

    /// <summary>
    /// BuildMdlFromScatterGatherList: an MDL over where the transferred bytes really are: the copy, when the back-end
    /// copies.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below. Dispose the MDL before the list is put.</remarks>
    /// <param name="list">A list that is not put.</param>
    /// <param name="originalMdl">The MDL it was got for.</param>
    /// <param name="targetMdl">The MDL; never the original one, whose bytes are the device's now. Null after an
    /// error.</param>
    /// <returns>Success; InvalidParameter: no original MDL, or not this list's; NoneMapped: this list already has
    /// one.</returns>
    public NtStatus BuildMdlFromScatterGatherList(ScatterGatherList list, Mdl? originalMdl, out Mdl? targetMdl)
    {
        Enter(DdiFunction.BuildMdlFromScatterGatherList);
        ArgumentNullException.ThrowIfNull(list);
        targetMdl = null;
        if (list.Adapter != this)
        {
            TellForeign(DdiFunction.BuildMdlFromScatterGatherList, "a scatter/gather list", list.Adapter.Adapter);
            return NtStatus.InvalidParameter;
        }
        if (originalMdl is null || originalMdl != list.Mdl || list.Lease == default)
        {
            return NtStatus.InvalidParameter;
        }
        if (list.MdlBuilt) { return NtStatus.NoneMapped; }
        targetMdl = Adapter.DescribeTransfer(list.Lease);
        list.MdlBuilt = true;
        return NtStatus.Success;
    }

    private ScatterGatherList NewList() => new(this, new ScatterGatherRequest(Adapter));

    private static void Ask(
        ScatterGatherList list, WdmDeviceObject device, Mdl mdl, uint offset, uint length, bool writeToDevice)
    {
        ArgumentNullException.ThrowIfNull(device);
        (list.Device, list.Irp, list.Mdl) = (device, device.CurrentIrp, mdl);
        (list.Offset, list.Length, list.Direction) = (offset, length, Direction(writeToDevice));
        (list.Lease, list.Routine, list.Context, list.Transfer, list.MdlBuilt) = (default, null, null, null, false);
        (list.Ticket, list.Refusal) = (list.Ticket + 1, NtStatus.Success);
    }

    private NtStatus Claim(DdiFunction function, ScatterGatherBuffer buffer, int registers)
    {
        ArgumentNullException.ThrowIfNull(buffer);
        if (!IsOurs(function, buffer)) { return NtStatus.InvalidParameter; }
        if (buffer.Bytes < ScatterGatherBuffer.BytesFor(registers)) { return NtStatus.BufferTooSmall; }
        Take(function, buffer);
        return NtStatus.Success;
    }

    private bool IsOurs(DdiFunction function, ScatterGatherBuffer buffer)
    {
        if (buffer.List.Adapter == this) { return true; }
        TellForeign(function, "memory for lists", buffer.List.Adapter.Adapter);
        return false;
    }

    private void Take(DdiFunction function, ScatterGatherBuffer buffer)
    {
        if (buffer.TryTake()) { return; }
        Tell(function, VerificationRule.StillInUse, 0, "memory that still holds a list is given for another");
        throw new InvalidOperationException(
            $"a scatter/gather buffer of {Driver} still holds a list: put it before the next is built");
    }

    // Maps now, or takes a place in a line. Success means that the routine ran or will.
    private NtStatus Begin(ScatterGatherList list)
    {
        // Who was withdrawn while it was served, and asks again in the same memory: that is still being written to.
        if (_starved.First is not null || Volatile.Read(ref _inService) == list)
        {
            Starve(list, own: true);
            return NtStatus.Success;
        }
        // Who brings memory of its own gets what is set aside first, because that takes none.
        if (list.Buffer is not null
            && TryMapReserved(list, own: true, out ScatterGatherLease lease, out NtStatus reserved))
        {
            list.Lease = lease;
            if (reserved.IsSuccess()) { Deliver(list); }
            else { Finish(list); }
            return reserved;
        }
        ListCall outer = _call;
        _call = new(list, list.Ticket, NtStatus.Success);
        try
        {
            Adapter.BuildScatterGatherList(
                list.Request, list.Mdl, list.Offset, list.Length, list.Direction, ListGranted, list, 0,
                nameof(GetScatterGatherList), Driver);
            return _call.Status;
        }
        catch (DmaViolationException) when (list.Lease == default)
        {
            Finish(list);
            throw;
        }
        finally { _call = outer; }
    }

    private void Granted(ScatterGatherList list, ScatterGatherLease lease, DmaFailure failure)
    {
        if (failure == DmaFailure.OutOfResources && _reserve is not null)
        {
            Starve(list, own: false);
            return;
        }
        (list.Lease, list.Refusal) = (lease, failure.ToStatus());
        if (failure != DmaFailure.None)
        {
            bool inCall = _call.List == list && _call.Ticket == list.Ticket;
            Finish(list);
            if (inCall)
            {
                _call = _call with { Status = failure.ToStatus() };
                return;
            }
        }
        Deliver(list);
    }

    private static void Deliver(ScatterGatherList list)
    {
        if (list.Lease != default) { list.Transfer?.Granted(list); }
        if (list.Routine is not { } routine) { return; }
        using (IrqlScheduler.Callback()) { routine(list.Device, list.Irp, list, list.Context); }
    }

    private static void Finish(ScatterGatherList list)
    {
        list.Transfer?.End();
        list.Buffer?.Give();
    }

    private readonly record struct ListCall(ScatterGatherList? List, long Ticket, NtStatus Status);
}
