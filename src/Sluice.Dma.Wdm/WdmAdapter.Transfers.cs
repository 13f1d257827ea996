using System.Runtime.CompilerServices;

namespace Sluice.Dma.Wdm;

/// <summary>DMA_SYNCHRONOUS_CALLBACK and what else a version 3 request may say.</summary>
[Flags]
public enum DmaFlags
{
    /// <summary>Granted when it is its turn.</summary>
    None = 0,

    /// <summary>DMA_SYNCHRONOUS_CALLBACK: granted before the call returns, in its thread, or not at all.</summary>
    SynchronousCallback = 1,
}

// Rows 18, 20, 22, 27: requests of version 3, which have a context and can be withdrawn.
public sealed partial class WdmAdapter
{
    /// <summary>InitializeDmaTransferContext: makes a context ready for one request.</summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    /// <returns>Success; InvalidParameter: the context still stands for a request.</returns>
    public NtStatus InitializeDmaTransferContext(DmaTransferContext transferContext)
    {
        Enter(DdiFunction.InitializeDmaTransferContext);
        ArgumentNullException.ThrowIfNull(transferContext);
        NtStatus status = transferContext.Initialize(this);
        if (!status.IsSuccess())
        {
            Tell(DdiFunction.InitializeDmaTransferContext, VerificationRule.ContextMisused, 0,
                "a transfer context is set up while a transfer uses it");
        }
        return status;
    }

    /// <summary>
    /// AllocateAdapterChannelEx: as <see cref="AllocateAdapterChannel"/>, with a context to withdraw it by, and at once
    /// or not at all when that is asked.
    /// </summary>
    /// <remarks>
    /// At DISPATCH_LEVEL. Exactly three forms are legal: asynchronous with a routine; synchronous with a routine, which
    /// runs in this thread; synchronous with a place for the map registers instead, which
    /// <see cref="FreeAdapterObject"/> ends.
    /// </remarks>
    /// <param name="device">Whose current IRP the callback gets.</param>
    /// <param name="transferContext">Initialised, and of no other request.</param>
    /// <param name="numberOfMapRegisters">1 to <see cref="NumberOfMapRegisters"/>.</param>
    /// <param name="flags">Synchronous or not.</param>
    /// <param name="executionRoutine">AdapterControl.</param>
    /// <param name="executionContext">Handed to it.</param>
    /// <param name="mapRegisterBase">Where the map registers go when no routine takes them.</param>
    /// <returns>Success; InvalidParameter: another form, or a context that is not initialised; InsufficientResources:
    /// more than were granted at the start, or synchronous and not free now; Cancelled: withdrawn beforehand;
    /// DeviceBusy and InvalidDeviceRequest as <see cref="AllocateAdapterChannel"/>.</returns>
    public NtStatus AllocateAdapterChannelEx(
        WdmDeviceObject device, DmaTransferContext transferContext, int numberOfMapRegisters, DmaFlags flags,
        DriverControl? executionRoutine, object? executionContext, StrongBox<MapRegisterBase?>? mapRegisterBase) =>
        AskForChannel(device, transferContext, numberOfMapRegisters, flags, executionRoutine, executionContext,
            mapRegisterBase, null);

    // As AllocateAdapterChannelEx; and who waited is told when the adapter was put meanwhile, which the DDI tells to
    // nobody.
    internal NtStatus AskForChannel(
        WdmDeviceObject device, DmaTransferContext transferContext, int numberOfMapRegisters, DmaFlags flags,
        DriverControl? executionRoutine, object? executionContext, StrongBox<MapRegisterBase?>? mapRegisterBase,
        Action? dropped)
    {
        Enter(DdiFunction.AllocateAdapterChannelEx);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(transferContext);
        bool synchronous = flags == DmaFlags.SynchronousCallback;
        if (!IsLegal(flags, executionRoutine is not null, mapRegisterBase is not null))
        {
            return NtStatus.InvalidParameter;
        }
        VerifyRegisters(DdiFunction.AllocateAdapterChannelEx, device, numberOfMapRegisters);
        NtStatus status = CheckRegisters(numberOfMapRegisters);
        if (!status.IsSuccess()) { return status; }
        if (!synchronous)
        {
            return Queue(new(
                this, device, numberOfMapRegisters, executionRoutine!, executionContext, transferContext, dropped));
        }
        status = Begin(DdiFunction.AllocateAdapterChannelEx, transferContext, this);
        if (!status.IsSuccess()) { return status; }
        DmaChannel? channel = null;
        try
        {
            bool free = Adapter.TryAllocateChannel(numberOfMapRegisters, out channel);
            if (!free) { status = NtStatus.InsufficientResources; }
        }
        catch (DmaException e) { status = e.Failure.ToStatus(); }
        if (channel is null)
        {
            transferContext.End();
            return status;
        }
        MapRegisterBase granted = new(this, device, channel, numberOfMapRegisters, transferContext);
        transferContext.Granted(granted);
        if (executionRoutine is null) { _kept = mapRegisterBase!.Value = granted; }
        else { Control(granted, device.CurrentIrp, executionRoutine, executionContext); }
        return NtStatus.Success;
    }

    /// <summary>
    /// CancelAdapterChannel: withdraws the request of a context, or the one that the context will be used for next.
    /// </summary>
    /// <remarks>
    /// At DISPATCH_LEVEL or below. A request withdrawn beforehand returns Cancelled when it is made;
    /// <see cref="InitializeDmaTransferContext"/> forgets that.
    /// </remarks>
    /// <returns>True: the callback will never run. False: it ran, runs or is about to, or there is no such
    /// request.</returns>
    public bool CancelAdapterChannel(WdmDeviceObject device, DmaTransferContext transferContext)
    {
        Enter(DdiFunction.CancelAdapterChannel);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(transferContext);
        return TryWithdraw(DdiFunction.CancelAdapterChannel, transferContext, out bool beforehand) || beforehand;
    }

    // True when a request was withdrawn: whoever made it hears no more of it.
    internal bool TryWithdraw(DdiFunction function, DmaTransferContext transferContext, out bool beforehand)
    {
        beforehand = false;
        if (transferContext.Adapter is { } owner && owner != this)
        {
            TellForeign(function, "a transfer context", owner.Adapter);
            return false;
        }
        object? request = transferContext.Withdraw(out beforehand);
        if (beforehand) { return false; }
        switch (request)
        {
            case WdmChannelRequest channel when channel.Inner.TryCancel():
                Interlocked.CompareExchange(ref channel.Device.QueuedChannel, null, channel);
                break;
            case ScatterGatherList list when TryCancelList(list):
                break;
            default:
                return false;
        }
        transferContext.End();
        return true;
    }

    /// <summary>
    /// FreeAdapterObject: says after a synchronous request without a callback what a callback would have returned.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below, after the flush. KeepObject says nothing and does nothing.</remarks>
    /// <param name="device">The device object of the request.</param>
    /// <param name="allocationAction">What to give back.</param>
    /// <exception cref="InvalidOperationException">The device object keeps no channel, or runs are not
    /// flushed.</exception>
    public void FreeAdapterObject(WdmDeviceObject device, IoAllocationAction allocationAction)
    {
        Enter(DdiFunction.FreeAdapterObject);
        ArgumentNullException.ThrowIfNull(device);
        if (allocationAction == IoAllocationAction.KeepObject) { return; }
        if (Volatile.Read(ref _kept) is not { } kept || kept.Device != device)
        {
            if (TakeKeptOfNothing()) { return; }
            Tell(DdiFunction.FreeAdapterObject, VerificationRule.ChannelFreedTwice, 0,
                "the device object keeps no channel");
            throw new InvalidOperationException(
                $"{Driver} frees an adapter object that this device object does not keep");
        }
        bool inControl;
        lock (kept.Lock) { inControl = kept.InControl; }
        if (!inControl) { Apply(kept, allocationAction, answered: true); }
        else if (allocationAction == IoAllocationAction.DeallocateObject)
        {
            Deallocate(kept, DdiFunction.FreeAdapterChannel);
        }
        else
        {
            throw new InvalidOperationException(
                $"{Driver} keeps the registers of an AdapterControl that has not returned: it says so itself");
        }
    }

    // The context of a request: set up by this adapter, and in nobody's use. Cancelled is no misuse.
    private NtStatus Begin(DdiFunction function, DmaTransferContext context, object request)
    {
        NtStatus status = context.Begin(this, request, Adapter.Verifier);
        if (status != NtStatus.InvalidParameter) { return status; }
        if (context.Adapter is { } owner && owner != this)
        {
            TellForeign(function, "a transfer context", owner.Adapter);
        }
        else
        {
            Tell(function, VerificationRule.ContextMisused, 0,
                "a transfer context is used that is not set up, or that another transfer uses");
        }
        return status;
    }

    // Asynchronous with a routine, synchronous with a routine, or synchronous with a place for the result.
    private static bool IsLegal(DmaFlags flags, bool routine, bool result) => flags switch
    {
        DmaFlags.None => routine && !result,
        DmaFlags.SynchronousCallback => routine != result,
        _ => false,
    };
}
