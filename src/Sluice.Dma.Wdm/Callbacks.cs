namespace Sluice.Dma.Wdm;

/// <summary>What an <see cref="DriverControl"/> wants done with what it was given.</summary>
public enum IoAllocationAction
{
    /// <summary>KeepObject: channel and map registers stay; for system DMA. FreeAdapterChannel ends it.</summary>
    KeepObject = 1,

    /// <summary>DeallocateObject: channel and map registers go back now.</summary>
    DeallocateObject = 2,

    /// <summary>DeallocateObjectKeepRegisters: the channel goes back, the registers stay; for packet bus masters.
    /// FreeMapRegisters ends it.</summary>
    DeallocateObjectKeepRegisters = 3,
}

/// <summary>How a mapped transfer of a system DMA controller ended.</summary>
public enum DmaCompletionStatus
{
    /// <summary>DmaComplete: every byte moved.</summary>
    Complete,

    /// <summary>DmaAborted: not used.</summary>
    Aborted,

    /// <summary>DmaError: the controller stopped on an error.</summary>
    Error,

    /// <summary>DmaCancelled: <see cref="WdmAdapter.CancelMappedTransfer"/> stopped it.</summary>
    Cancelled,
}

/// <summary>
/// DRIVER_CONTROL (AdapterControl): the channel and its map registers are the driver's. At DISPATCH_LEVEL.
/// </summary>
/// <param name="device">The device object of the request.</param>
/// <param name="irp">The device object's current IRP when the request was made.</param>
/// <param name="mapRegisterBase">The map registers, for MapTransfer and the functions that free them.</param>
/// <param name="context">What the request passed.</param>
public delegate IoAllocationAction DriverControl(
    WdmDeviceObject device, Irp? irp, MapRegisterBase mapRegisterBase, object? context);

/// <summary>DRIVER_LIST_CONTROL (AdapterListControl): the list is the driver's, to be put. At DISPATCH_LEVEL.</summary>
/// <param name="device">The device object of the request.</param>
/// <param name="irp">The device object's current IRP when the request was made.</param>
/// <param name="list">The list. It has no element when the request waited and then could not be served.</param>
/// <param name="context">What the request passed.</param>
public delegate void DriverListControl(WdmDeviceObject device, Irp? irp, ScatterGatherList list, object? context);

/// <summary>
/// DMA_COMPLETION_ROUTINE: a mapped transfer of a system DMA controller ended. At DISPATCH_LEVEL. FlushAdapterBuffersEx
/// is still due.
/// </summary>
/// <param name="adapter">The adapter.</param>
/// <param name="device">The device object of the request.</param>
/// <param name="context">What the request passed.</param>
/// <param name="status">How it ended.</param>
public delegate void DmaCompletionRoutine(
    WdmAdapter adapter, WdmDeviceObject device, object? context, DmaCompletionStatus status);
