namespace Sluice.Dma.Wdm;

/// <summary>
/// EVT_WDF_DMA_TRANSACTION_CONFIGURE_DMA_CHANNEL: the driver configures its controller's channel before a transfer is
/// mapped. At DISPATCH_LEVEL. False when the driver has completed the transaction instead: nothing is mapped then.
/// </summary>
/// <param name="transaction">Whose transfer it is.</param>
/// <param name="device">The enabler's device.</param>
/// <param name="context">What <see cref="WdfDmaTransaction.SetChannelConfigurationCallback"/> was given.</param>
/// <param name="mdl">The buffer.</param>
/// <param name="offset">The transfer's first byte, counted from the MDL's start.</param>
/// <param name="length">Bytes; the controller may take fewer.</param>
public delegate bool WdfConfigureDmaChannel(
    WdfDmaTransaction transaction, WdmDeviceObject device, object? context, Mdl mdl, ulong offset, uint length);

// What is set for one I/O, and what is known of it.
public sealed partial class WdfDmaTransaction
{
    private WdfConfigureDmaChannel? _configureChannel;
    private object? _configureContext;
    private uint _deviceOffset;
    private bool _immediate;
    private DmaTransferInfo _info;

    /// <summary>WdfDmaTransactionGetDevice: the device of the enabler.</summary>
    public WdmDeviceObject Device => Adapter.Device;

    /// <summary>WdfDmaTransactionGetRequest: the I/O request it was initialized with; null without one.</summary>
    public Irp? Request { get; private set; }

    /// <summary>
    /// WdfDmaTransactionWdmGetTransferContext: the context that the functions below know its requests by; null with DMA
    /// version 2, which has none.
    /// </summary>
    public DmaTransferContext? WdmTransferContext => _enabler.UsesVersion3 ? _context : null;

    /// <summary>
    /// WdfDmaTransactionGetTransferInfo: what the whole I/O would take as one transfer, and at the most.
    /// </summary>
    /// <param name="mapRegisterCount">Map registers.</param>
    /// <param name="scatterGatherElementCount">Elements of the list.</param>
    /// <exception cref="InvalidOperationException">It is not initialized.</exception>
    public void GetTransferInfo(out int mapRegisterCount, out int scatterGatherElementCount)
    {
        if (_mdl is null)
        {
            throw new InvalidOperationException("a DMA transaction is asked before it is initialized");
        }
        (mapRegisterCount, scatterGatherElementCount) = (_info.MapRegisterCount, _info.ScatterGatherElementCount);
    }

    /// <summary>
    /// WdfDmaTransactionSetImmediateExecution: whether a transfer begins at once or fails with InsufficientResources,
    /// and never waits. That holds for each transfer of the I/O.
    /// </summary>
    /// <remarks>Until it is set again, or <see cref="Release"/>. <see cref="AllocateResources"/> never waits.</remarks>
    /// <exception cref="InvalidOperationException">The enabler uses DMA version 2.</exception>
    public void SetImmediateExecution(bool immediate)
    {
        ThrowWithoutVersion3();
        _immediate = immediate;
    }

    /// <summary>
    /// WdfDmaTransactionSetDeviceAddressOffset: bytes to add to the address of the device's data register, for this I/O
    /// alone. For system profiles, after Initialize.
    /// </summary>
    /// <exception cref="InvalidOperationException">Another profile.</exception>
    public void SetDeviceAddressOffset(uint offset)
    {
        ThrowWithoutController();
        _deviceOffset = offset;
    }

    /// <summary>
    /// WdfDmaTransactionSetChannelConfigurationCallback: who configures the controller's channel, before each transfer
    /// is mapped. For system profiles, after Initialize; Release forgets it.
    /// </summary>
    /// <param name="callback">Who configures; null for nobody.</param>
    /// <param name="context">Handed to it.</param>
    /// <exception cref="InvalidOperationException">Another profile.</exception>
    public void SetChannelConfigurationCallback(WdfConfigureDmaChannel? callback, object? context)
    {
        ThrowWithoutController();
        (_configureChannel, _configureContext) = (callback, context);
    }

    // False when the driver ended the transaction instead, or could not say what it wants.
    private bool ConfigureChannel(long round, out NtStatus why)
    {
        why = NtStatus.Success;
        if (_configureChannel is not { } configure) { return true; }
        // It may complete the transfer in here.
        _state.TryMove(round, TransactionStep.Mapping, TransactionStep.Transferring);
        try
        {
            using (IrqlScheduler.Callback())
            {
                return configure(this, Device, _configureContext, _mdl!, _start + _done, _current)
                    && _state.TryMove(round, TransactionStep.Transferring, TransactionStep.Mapping);
            }
        }
        catch (Exception e)
        {
            bool ours = _state.TryMove(round, TransactionStep.Transferring, TransactionStep.Mapping);
            if (IsStaging(round))
            {
                if (ours) { End(TransactionStep.Refused); }
                throw;
            }
            Adapter.Adapter.OnCallbackFailed(e);
            if (ours) { why = NtStatus.InvalidDeviceRequest; }
            return false;
        }
    }

    private void ThrowWithoutController()
    {
        if (_enabler.IsSystem) { return; }
        throw new InvalidOperationException(
            $"a DMA transaction of profile {_enabler.Config.Profile} has no controller");
    }

    private void ThrowWithoutVersion3()
    {
        if (_enabler.UsesVersion3) { return; }
        throw new InvalidOperationException("that takes DMA version 3, and this enabler uses version 2");
    }
}
