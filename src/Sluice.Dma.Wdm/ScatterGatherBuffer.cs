namespace Sluice.Dma.Wdm;

/// <summary>
/// Memory of a driver's own for a list: the elements and all that the DDI keeps about the request. It is made once,
/// when memory is plenty; building a list in it allocates nothing.
/// </summary>
/// <remarks>One list at a time: free again when the list was put, or flushed.</remarks>
public sealed class ScatterGatherBuffer
{
    /// <summary>Bytes of the request itself: a place in the queue, what was asked, who is called back.</summary>
    internal const int PrivateBytes = 192;

    private int _inUse;

    /// <summary>A buffer.</summary>
    /// <param name="adapter">Whose lists it is for.</param>
    /// <param name="bytes">What CalculateScatterGatherListSize or GetDmaTransferInfo said.</param>
    public ScatterGatherBuffer(WdmAdapter adapter, int bytes)
    {
        ArgumentNullException.ThrowIfNull(adapter);
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        Bytes = bytes;
        Elements = Math.Max(0, (bytes - ScatterGatherList.HeaderBytes - PrivateBytes) / ScatterGatherList.ElementBytes);
        List = new(adapter, new ScatterGatherRequest(adapter.Adapter, Elements), this);
    }

    /// <summary>Its size.</summary>
    public int Bytes { get; }

    /// <summary>Elements it has room for.</summary>
    public int Elements { get; }

    /// <summary>The list in it: the one that callbacks and synchronous calls hand out.</summary>
    public ScatterGatherList List { get; }

    internal bool TryTake() => Interlocked.Exchange(ref _inUse, 1) == 0;

    internal void Give() => Volatile.Write(ref _inUse, 0);

    /// <summary>Bytes for a list of so many elements.</summary>
    public static int BytesFor(int elements) =>
        checked(ScatterGatherList.HeaderBytes + PrivateBytes + (elements * ScatterGatherList.ElementBytes));
}
