namespace Sluice.Dma.Wdm;

/// <summary>A request for a channel that waits, or is being granted.</summary>
internal sealed class WdmChannelRequest(
    WdmAdapter adapter, WdmDeviceObject device, DriverControl routine, object? context, DmaTransferContext? transfer)
{
    internal readonly DmaChannelRequest Inner = new(adapter.Adapter);
    internal readonly WdmAdapter Adapter = adapter;
    internal readonly WdmDeviceObject Device = device;
    internal readonly Irp? Irp = device.CurrentIrp;
    internal readonly DriverControl Routine = routine;
    internal readonly object? Context = context;
    internal readonly DmaTransferContext? Transfer = transfer;

    // Why there is no channel, when that is known before the call that made the request returns.
    internal NtStatus Status;
}
