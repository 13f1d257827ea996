namespace Sluice.Dma.Wdm;

// Rows 23, 26, 30: a whole chain at a time through the map registers of a request.
public sealed partial class WdmAdapter
{
    /// <summary>
    /// MapTransferEx: loads map registers for as much of a buffer as they, and the list, hold; starts the controller
    /// for a subordinate device.
    /// </summary>
    /// <remarks>
    /// At DISPATCH_LEVEL or below. For each success one <see cref="FlushAdapterBuffersEx"/> is due before the next map.
    /// What was not mapped is mapped later, from <paramref name="offset"/> plus the bytes mapped.
    /// </remarks>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="mapRegisterBase">From AdapterControl, or a synchronous request.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="deviceOffset">Bytes to add to the device's data register (subordinate).</param>
    /// <param name="length">In: bytes left to map. Out: bytes mapped; it is written before the completion routine
    /// runs.</param>
    /// <param name="writeToDevice">Whether the device reads.</param>
    /// <param name="buffer">Takes the list. A subordinate device's may be null.</param>
    /// <param name="completionRoutine">Called when the controller is done, for subordinate devices only; null for
    /// none.</param>
    /// <param name="completionContext">Handed to it.</param>
    /// <returns>Success, for all bytes or fewer; InvalidParameter: a bad range, no room for one element, the last map
    /// is not flushed, the registers were freed, or a completion routine of a bus master; BufferTooSmall: the chain
    /// ends before; InsufficientResources; AccessDenied; DeviceNotConnected; Cancelled:
    /// <see cref="CancelMappedTransfer"/> was called (when that comes while the controller is being started, this
    /// succeeds and the completion routine says it).</returns>
    public NtStatus MapTransferEx(
        Mdl mdl, MapRegisterBase mapRegisterBase, ulong offset, uint deviceOffset, ref uint length, bool writeToDevice,
        ScatterGatherBuffer? buffer, DmaCompletionRoutine? completionRoutine, object? completionContext)
    {
        Enter(DdiFunction.MapTransferEx);
        Own(DdiFunction.MapTransferEx, mapRegisterBase);
        if (!IsHeld(DdiFunction.MapTransferEx, mapRegisterBase)) { return NtStatus.InvalidParameter; }
        if (mapRegisterBase.Transfer is { IsPoisoned: true }) { return NtStatus.Cancelled; }
        Verify(DdiFunction.MapTransferEx, mdl, offset, length, whole: false);
        VerifyFlushed(DdiFunction.MapTransferEx, mapRegisterBase);
        NtStatus status = Locate(mdl, offset, length, out int _);
        // More registers than there are is no error here: the rest is mapped later.
        if (status is NtStatus.InvalidParameter or NtStatus.BufferTooSmall) { return status; }
        bool room = buffer is null ? IsSubordinate
            : IsOurs(DdiFunction.MapTransferEx, buffer) && buffer.Elements > 0;
        if (!room || (completionRoutine is not null && !IsSubordinate)) { return NtStatus.InvalidParameter; }

        lock (mapRegisterBase.Lock)
        {
            if (mapRegisterBase.IsMapped) { return NtStatus.InvalidParameter; }
            if (buffer is not null) { Take(DdiFunction.MapTransferEx, buffer); }
            mapRegisterBase.IsMapping = true;
        }
        status = MapPiece(mapRegisterBase, mdl, (uint)offset, ref length, writeToDevice, buffer, out var list);
        if (!status.IsSuccess()) { return status; }
        bool verified = false;
        try
        {
            VerifyMapped(
                DdiFunction.MapTransferEx, mapRegisterBase, mdl, (uint)offset, length, Direction(writeToDevice));
            verified = true;
            if (!IsSubordinate) { return NtStatus.Success; }
            Start(mapRegisterBase.Device, list!, deviceOffset, completionRoutine, completionContext);
        }
        catch
        {
            // What is thrown is not mapped.
            if (verified) { mapRegisterBase.Verified?.Undo(mdl, offset); }
            Unmap(mapRegisterBase, list!);
            throw;
        }
        // A cancel that came since the check above found nothing to stop: now there is. Its routine says cancelled.
        Interlocked.MemoryBarrier();
        if (mapRegisterBase.Transfer is { IsPoisoned: true }) { Controller.Cancel(Line); }
        return NtStatus.Success;
    }

    private void Unmap(MapRegisterBase registers, ScatterGatherList list)
    {
        lock (registers.Lock)
        {
            if (registers.Mapped?.List != list) { return; }
            registers.Mapped = null;
        }
        try { Flush(list.Lease, nameof(MapTransferEx)); }
        finally { list.Buffer?.Give(); }
    }

    // Outside the lock of the map registers: a list that is shortened gives back, and that serves whoever waits. What
    // was taken for the list goes back when none comes of it, whatever the reason.
    private NtStatus MapPiece(
        MapRegisterBase registers, Mdl mdl, uint offset, ref uint length, bool writeToDevice,
        ScatterGatherBuffer? buffer, out ScatterGatherList? list)
    {
        MappedTransfer? done = null;
        DmaDirection direction = Direction(writeToDevice);
        list = null;
        try
        {
            (ScatterGatherLease lease, uint mapped) = (default, 0);
            DmaFailure failure = registers.Channel?.TryMap(
                mdl, offset, length, direction, out lease, out mapped, buffer?.Elements ?? int.MaxValue, 0,
                nameof(MapTransferEx), Driver) ?? DmaFailure.Dead;
            if (failure != DmaFailure.None) { return failure.ToStatus(); }
            list = buffer?.List ?? NewList();
            Ask(list, registers.Device, mdl, offset, mapped, writeToDevice);
            (list.Lease, length) = (lease, mapped);
            done = new(mdl, offset, mapped, direction, list);
            return NtStatus.Success;
        }
        finally
        {
            registers.Mapped = done;
            registers.IsMapping = false;
            if (done is null) { buffer?.Give(); }
        }
    }

    /// <summary>
    /// FlushAdapterBuffersEx: ends what the last <see cref="MapTransferEx"/> mapped; data from the device is in the
    /// buffer only now. A controller that still works on it is stopped first.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below; also after a cancelled transfer.</remarks>
    /// <param name="mdl">As it was mapped.</param>
    /// <param name="mapRegisterBase">As it was mapped.</param>
    /// <param name="offset">As it was mapped.</param>
    /// <param name="length">The bytes that were mapped.</param>
    /// <param name="writeToDevice">As it was mapped.</param>
    /// <returns>Success; InvalidParameter: that is not what is mapped, or the registers were freed; nothing was
    /// flushed. What the end of the controller's transfer throws comes out when all is flushed.</returns>
    public NtStatus FlushAdapterBuffersEx(
        Mdl mdl, MapRegisterBase mapRegisterBase, ulong offset, uint length, bool writeToDevice)
    {
        Enter(DdiFunction.FlushAdapterBuffersEx);
        Own(DdiFunction.FlushAdapterBuffersEx, mapRegisterBase);
        if (!IsHeld(DdiFunction.FlushAdapterBuffersEx, mapRegisterBase)) { return NtStatus.InvalidParameter; }
        VerifyFlush(DdiFunction.FlushAdapterBuffersEx, mapRegisterBase, mdl, offset, length, writeToDevice);
        ScatterGatherList list;
        lock (mapRegisterBase.Lock)
        {
            if (mapRegisterBase.Mapped is not { } mapped
                || (mapped.Mdl, mapped.Offset, mapped.Length, mapped.Direction)
                    != (mdl, offset, length, Direction(writeToDevice)))
            {
                return NtStatus.InvalidParameter;
            }
            list = mapped.List;
            mapRegisterBase.Mapped = null;
        }
        EveryStep.Of(
            StopController,
            () => Flush(list.Lease, nameof(FlushAdapterBuffersEx)),
            () => list.Buffer?.Give());
        Conclude();
        return NtStatus.Success;
    }

    /// <summary>
    /// FlushDmaBuffer: makes what processor and device wrote to a range visible to each other while it stays mapped.
    /// </summary>
    /// <remarks>
    /// At DISPATCH_LEVEL or below (decided; the documents say nothing). Device and processor caches are coherent here,
    /// so there is nothing to write back: it orders what was written, and checks the range.
    /// </remarks>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="readOperation">Whether the device wrote.</param>
    /// <returns>Success; InvalidParameter or BufferTooSmall: a bad range.</returns>
    public NtStatus FlushDmaBuffer(Mdl mdl, ulong offset, uint length, bool readOperation)
    {
        Enter(DdiFunction.FlushDmaBuffer);
        VerifySync(mdl, offset, length, readOperation);
        NtStatus status = Locate(mdl, offset, length, out int _);
        if (status is NtStatus.InvalidParameter or NtStatus.BufferTooSmall) { return status; }
        Interlocked.MemoryBarrier();
        return NtStatus.Success;
    }
}
