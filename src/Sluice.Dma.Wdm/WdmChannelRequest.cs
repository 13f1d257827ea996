namespace Sluice.Dma.Wdm;

/// <summary>A request for a channel that waits, or is being granted.</summary>
internal sealed class WdmChannelRequest(
    WdmAdapter adapter, WdmDeviceObject device, int registers, DriverControl routine, object? context,
    DmaTransferContext? transfer, Action? dropped = null)
{
    internal readonly DmaChannelRequest Inner = new(adapter.Adapter);
    internal readonly WdmAdapter Adapter = adapter;
    internal readonly WdmDeviceObject Device = device;
    internal readonly Irp? Irp = device.CurrentIrp;
    internal readonly int MapRegisters = registers;
    internal readonly DriverControl Routine = routine;
    internal readonly object? Context = context;
    internal readonly DmaTransferContext? Transfer = transfer;

    // For a layer above: it waited, and the adapter was put.
    internal readonly Action? Dropped = dropped;

    // The thread of the call that made the request, until that returns; and why there is no channel, when it is that
    // thread which finds out.
    internal int CallerThread;

    // What is thrown from here on is its routine's.
    internal bool Answered;
    internal NtStatus Status;
}
