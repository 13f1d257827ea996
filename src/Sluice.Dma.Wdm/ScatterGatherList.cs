namespace Sluice.Dma.Wdm;

/// <summary>
/// SCATTER_GATHER_LIST: the elements of a mapped transfer, as the device is told of them. The driver's from the
/// callback, or a synchronous call, until PutScatterGatherList.
/// </summary>
/// <remarks>
/// The addresses are logical, whatever the DDI's documents call them. Reading a list that was put throws. Safe from any
/// thread.
/// </remarks>
public sealed class ScatterGatherList : IQueued<ScatterGatherList>
{
    /// <summary>Bytes of a list before its first element, as on 64-bit Windows.</summary>
    internal const int HeaderBytes = 16;

    /// <summary>Bytes of an element: address, length, a reserved word.</summary>
    internal const int ElementBytes = 24;

    // What was asked, for the callback.
    internal WdmDeviceObject Device = null!;
    internal Irp? Irp;
    internal DriverListControl? Routine;
    internal object? Context;
    internal DmaTransferContext? Transfer;

    // What is mapped.
    internal Mdl Mdl = null!;
    internal uint Offset;
    internal uint Length;
    internal DmaDirection Direction;
    internal bool MdlBuilt;

    // Which of the requests that were made with this object it stands for now: the memory of a buffer serves many.
    internal long Ticket;

    // Why it has no element.
    internal NtStatus Refusal;

    // Its place in the line of those whom only what is set aside can serve.
    private QueuePlace<ScatterGatherList> _starved;

    internal ScatterGatherList(WdmAdapter adapter, ScatterGatherRequest request, ScatterGatherBuffer? buffer = null) =>
        (Adapter, Request, Buffer) = (adapter, request, buffer);

    /// <summary>
    /// Elements in the list; 0 when the request waited and then could not be served: the device's DMA ended meanwhile,
    /// or a page of the buffer is none any more.
    /// </summary>
    public int NumberOfElements => Lease == default ? 0 : Lease.Count;

    /// <summary>One element.</summary>
    /// <exception cref="InvalidOperationException">The list was put.</exception>
    /// <exception cref="ArgumentOutOfRangeException">There is no such element.</exception>
    public ScatterGatherElement this[int index] => Lease[index];

    /// <summary>The caller's buffer it was built in; null for a list that was got.</summary>
    public ScatterGatherBuffer? Buffer { get; }

    ref QueuePlace<ScatterGatherList> IQueued<ScatterGatherList>.Place => ref _starved;

    internal WdmAdapter Adapter { get; }

    internal ScatterGatherRequest Request { get; }

    internal ScatterGatherLease Lease { get; set; }
}
