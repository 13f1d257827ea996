using System.Runtime.CompilerServices;

namespace Sluice.Dma.Wdm;

// Rows 24 and 25: lists with a context, which can be withdrawn, or be had at once or not at all.
public sealed partial class WdmAdapter
{
    /// <summary>
    /// GetScatterGatherListEx: as <see cref="GetScatterGatherList"/> with a context. For bus masters.
    /// </summary>
    /// <remarks>
    /// At DISPATCH_LEVEL or below. The same three forms as <see cref="AllocateAdapterChannelEx"/>. In all of them the
    /// list is the driver's until <see cref="PutScatterGatherList"/>; nothing is given back by itself.
    /// </remarks>
    /// <param name="device">Whose current IRP the callback gets.</param>
    /// <param name="transferContext">Initialised, and of no other request.</param>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">Synchronous or not.</param>
    /// <param name="executionRoutine">Takes the list.</param>
    /// <param name="context">Handed to it.</param>
    /// <param name="writeToDevice">Whether the device reads.</param>
    /// <param name="completionRoutine">Null: bus masters tell of their completions themselves.</param>
    /// <param name="completionContext">Null.</param>
    /// <param name="scatterGatherList">Where the list goes when no routine takes it.</param>
    /// <returns>As <see cref="GetScatterGatherList"/>, and InvalidParameter: another form, a completion routine, or a
    /// subordinate device; InsufficientResources: synchronous and not free now; Cancelled: withdrawn
    /// beforehand.</returns>
    public NtStatus GetScatterGatherListEx(
        WdmDeviceObject device, DmaTransferContext transferContext, Mdl mdl, ulong offset, uint length, DmaFlags flags,
        DriverListControl? executionRoutine, object? context, bool writeToDevice,
        DmaCompletionRoutine? completionRoutine, object? completionContext,
        StrongBox<ScatterGatherList?>? scatterGatherList)
    {
        Enter(DdiFunction.GetScatterGatherListEx);
        if (!TakesLists(flags, executionRoutine, completionRoutine, completionContext, scatterGatherList))
        {
            return NtStatus.InvalidParameter;
        }
        Verify(DdiFunction.GetScatterGatherListEx, mdl, offset, length);
        NtStatus status = Locate(mdl, offset, length, out int _);
        if (!status.IsSuccess()) { return status; }
        ScatterGatherList list = NewList();
        Ask(list, device, mdl, (uint)offset, length, writeToDevice);
        (list.Routine, list.Context, list.Transfer) = (executionRoutine, context, transferContext);
        return Begin(DdiFunction.GetScatterGatherListEx, list, transferContext, flags, scatterGatherList);
    }

    /// <summary>BuildScatterGatherListEx: as <see cref="GetScatterGatherListEx"/>, in memory of the driver's
    /// own.</summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    /// <param name="device">Whose current IRP the callback gets.</param>
    /// <param name="transferContext">Initialised, and of no other request.</param>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="flags">Synchronous or not.</param>
    /// <param name="executionRoutine">Takes the list.</param>
    /// <param name="context">Handed to it.</param>
    /// <param name="writeToDevice">Whether the device reads.</param>
    /// <param name="buffer">The driver's memory; in use until the list is put.</param>
    /// <param name="completionRoutine">Null.</param>
    /// <param name="completionContext">Null.</param>
    /// <param name="scatterGatherList">Where the list goes when no routine takes it: it is the buffer's own.</param>
    /// <returns>As <see cref="GetScatterGatherListEx"/>, and BufferTooSmall when <paramref name="buffer"/>
    /// is.</returns>
    /// <exception cref="InvalidOperationException">The buffer holds a list already.</exception>
    public NtStatus BuildScatterGatherListEx(
        WdmDeviceObject device, DmaTransferContext transferContext, Mdl mdl, ulong offset, uint length, DmaFlags flags,
        DriverListControl? executionRoutine, object? context, bool writeToDevice, ScatterGatherBuffer buffer,
        DmaCompletionRoutine? completionRoutine, object? completionContext,
        StrongBox<ScatterGatherList?>? scatterGatherList)
    {
        Enter(DdiFunction.BuildScatterGatherListEx);
        if (!TakesLists(flags, executionRoutine, completionRoutine, completionContext, scatterGatherList))
        {
            return NtStatus.InvalidParameter;
        }
        Verify(DdiFunction.BuildScatterGatherListEx, mdl, offset, length);
        NtStatus status = Locate(mdl, offset, length, out int registers);
        if (status.IsSuccess()) { status = Claim(DdiFunction.BuildScatterGatherListEx, buffer, registers); }
        if (!status.IsSuccess()) { return status; }
        Ask(buffer.List, device, mdl, (uint)offset, length, writeToDevice);
        (buffer.List.Routine, buffer.List.Context, buffer.List.Transfer) = (executionRoutine, context, transferContext);
        return Begin(DdiFunction.BuildScatterGatherListEx, buffer.List, transferContext, flags, scatterGatherList);
    }

    private bool TakesLists(
        DmaFlags flags, DriverListControl? routine, DmaCompletionRoutine? completion, object? completionContext,
        StrongBox<ScatterGatherList?>? result) =>
        !IsSubordinate && completion is null && completionContext is null
        && IsLegal(flags, routine is not null, result is not null);

    private NtStatus Begin(
        DdiFunction function, ScatterGatherList list, DmaTransferContext transferContext, DmaFlags flags,
        StrongBox<ScatterGatherList?>? result)
    {
        NtStatus status = NtStatus.InvalidParameter;
        try
        {
            ArgumentNullException.ThrowIfNull(transferContext);
            status = Begin(function, transferContext, list);
        }
        finally
        {
            if (!status.IsSuccess())
            {
                // The context is somebody else's, or spent: it is not this list's to end.
                list.Transfer = null;
                Finish(list);
            }
        }
        if (!status.IsSuccess()) { return status; }
        if (flags == DmaFlags.None) { return Begin(list); }
        // A request withdrawn while it was served may still write to this memory: nothing is free now.
        ScatterGatherLease lease = default;
        bool mapped = Volatile.Read(ref _inService) != list
            && (TryMapReserved(list, own: true, out lease, out status)
                || TryMapOrdinary(list, own: true, out lease, out status));
        if (!mapped) { status = NtStatus.InsufficientResources; }
        if (!status.IsSuccess())
        {
            Finish(list);
            return status;
        }
        list.Lease = lease;
        if (result is not null) { result.Value = list; }
        Deliver(list);
        return NtStatus.Success;
    }
}
