namespace Sluice.Dma.Wdm;

// Rows 10, 21, 28, and what mapping means for a subordinate device: the platform's controller moves its data.
public sealed partial class WdmAdapter
{
    /// <summary>ReadDmaCounter: bytes that the controller has still to move. 0 for a bus master.</summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    public uint ReadDmaCounter()
    {
        Enter(DdiFunction.ReadDmaCounter);
        return IsSubordinate ? Controller.ReadCounter(Line) : 0;
    }

    /// <summary>ConfigureAdapterChannel: a function that the controller alone has.</summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    /// <param name="functionNumber">Its number.</param>
    /// <param name="context">Whatever it takes.</param>
    /// <returns>NotImplemented when there is no such function, or no controller.</returns>
    public NtStatus ConfigureAdapterChannel(uint functionNumber, object? context)
    {
        Enter(DdiFunction.ConfigureAdapterChannel);
        return IsSubordinate ? Controller.Configure(Line, functionNumber, context) : NtStatus.NotImplemented;
    }

    /// <summary>
    /// CancelMappedTransfer: stops the controller's transfer of a context. Its completion routine runs, and says
    /// cancelled unless the transfer was over just before; the flush is still due; nothing more is mapped with this
    /// context.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    /// <param name="device">The device object of the request.</param>
    /// <param name="transferContext">The context the map registers were asked for with.</param>
    /// <returns>Success; InvalidParameter: a bus master, or a context without map registers.</returns>
    public NtStatus CancelMappedTransfer(WdmDeviceObject device, DmaTransferContext transferContext)
    {
        Enter(DdiFunction.CancelMappedTransfer);
        ArgumentNullException.ThrowIfNull(transferContext);
        if (transferContext.Adapter is { } owner && owner != this)
        {
            TellForeign(DdiFunction.CancelMappedTransfer, "a transfer context", owner.Adapter);
            return NtStatus.InvalidParameter;
        }
        if (!IsSubordinate || transferContext.Grant is not MapRegisterBase granted || granted.Device != device)
        {
            return NtStatus.InvalidParameter;
        }
        transferContext.Poison();
        Controller.Cancel(Line);
        return NtStatus.Success;
    }

    private ISystemDmaController Controller => _dma.Controller!;

    private int Line => Controller.LineOf(Description);

    private void StartRun(Mdl mdl, uint offset, uint length, DmaDirection direction, ScatterGatherLease lease)
    {
        ScatterGatherList list = NewList();
        Ask(list, Device, mdl, offset, length, direction == DmaDirection.ToDevice);
        list.Lease = lease;
        Start(Device, list, 0, null, null);
    }

    private void Start(
        WdmDeviceObject device, ScatterGatherList list, uint deviceOffset, DmaCompletionRoutine? routine,
        object? context)
    {
        SystemDmaTransfer transfer = new(
            list, list.Direction == DmaDirection.ToDevice, Description.DeviceAddress, deviceOffset,
            Description.DmaWidth, Description.DemandMode, Description.AutoInitialize);
        Controller.Start(Line, transfer, status =>
        {
            if (routine is null) { return; }
            // Whose call this is nobody knows: the machine's, or one that stops the controller.
            try
            {
                using (IrqlScheduler.Callback()) { routine(this, device, context, status); }
            }
            catch (Exception e) { Adapter.OnCallbackFailed(e); }
        });
    }

    // No unit of data moves after a flush.
    private void StopController()
    {
        if (IsSubordinate) { Controller.Cancel(Line); }
    }
}
