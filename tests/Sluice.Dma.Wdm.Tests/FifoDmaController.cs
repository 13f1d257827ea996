namespace Sluice.Dma.Wdm.Tests;

/// <summary>
/// A system DMA controller that really moves bytes: between a device's FIFO, one per line, and memory, by the adapter's
/// logical addresses and with its requester id. It moves when a test steps it, as far as the FIFO and the step go.
/// </summary>
internal sealed class FifoDmaController(TestPlatform platform, PciAddress requester, int lines) : ISystemDmaController
{
    private readonly Line[] _lines = [.. Enumerable.Range(0, lines).Select(static _ => new Line())];

    public int AddressBits { get; init; } = 32;

    public bool ScatterGather { get; init; } = true;

    public int MinimumTransferUnit => 1;

    public bool Has(WdmDeviceDescription description) => (uint)LineOf(description) < (uint)_lines.Length;

    public int LineOf(WdmDeviceDescription description) =>
        description.Version == 3 ? description.DmaRequestLine : description.DmaChannel;

    internal Queue<byte> Fifo(int line) => _lines[line].Fifo;

    internal SystemDmaTransfer? Current(int line) => _lines[line].Transfer;

    internal int Started { get; private set; }

    /// <summary>Runs before a transfer is under way: when a stop finds nothing to stop.</summary>
    internal Action? Starting { get; set; }

    /// <summary>A controller so fast that a transfer is done before its start has returned.</summary>
    internal bool IsFast { get; set; }

    public void Start(int line, in SystemDmaTransfer transfer, Action<DmaCompletionStatus> completed)
    {
        Line at = _lines[line];
        Starting?.Invoke();
        Assert.Null(at.Completed);
        (at.Transfer, at.Completed, at.Position) = (transfer, completed, 0);
        Started++;
        // What the list says must not change under the controller: it latches addresses as silicon does.
        ScatterGatherList list = transfer.Elements;
        at.Elements = [.. Enumerable.Range(0, list.NumberOfElements).Select(i => list[i])];
        at.Total = (uint)at.Elements.Sum(static e => e.Length);
        if (IsFast) { Step(line, uint.MaxValue); }
    }

    public uint ReadCounter(int line) =>
        _lines[line].Completed is null ? 0 : _lines[line].Total - _lines[line].Position;

    public bool Cancel(int line) => End(line, DmaCompletionStatus.Cancelled);

    public NtStatus Configure(int line, uint functionNumber, object? context)
    {
        if (functionNumber != 7) { return NtStatus.NotImplemented; }
        _lines[line].Configured = context;
        return NtStatus.Success;
    }

    internal object? Configured(int line) => _lines[line].Configured;

    /// <summary>Up to so many bytes more; fewer when the device has none.</summary>
    internal uint Step(int line, uint bytes)
    {
        Line at = _lines[line];
        uint moved = 0;
        while (at.Completed is not null && moved < bytes)
        {
            (LogicalAddress address, uint room) = Place(at);
            bool write = at.Transfer!.Value.WriteToDevice;
            uint here = Math.Min(room, bytes - moved);
            if (!write) { here = Math.Min(here, (uint)at.Fifo.Count); }
            if (here == 0) { break; }
            byte[] data = new byte[here];
            if (!write)
            {
                for (int i = 0; i < data.Length; i++) { data[i] = at.Fifo.Dequeue(); }
            }
            bool done = platform.Dma(requester, address, data, write ? DmaAccess.Read : DmaAccess.Write);
            if (!done)
            {
                End(line, DmaCompletionStatus.Error);
                break;
            }
            if (write) { Array.ForEach(data, at.Fifo.Enqueue); }
            at.Position += here;
            moved += here;
            if (at.Position < at.Total) { continue; }
            if (at.Transfer.Value.AutoInitialize) { at.Position = 0; }
            else { End(line, DmaCompletionStatus.Complete); }
        }
        return moved;
    }

    private bool End(int line, DmaCompletionStatus status)
    {
        Line at = _lines[line];
        if (at.Completed is not { } completed) { return false; }
        (at.Completed, at.Transfer) = (null, null);
        completed(status);
        return true;
    }

    private static (LogicalAddress Address, uint Room) Place(Line at)
    {
        uint skip = at.Position;
        foreach (ScatterGatherElement element in at.Elements)
        {
            if (skip < element.Length) { return (element.Address + skip, element.Length - skip); }
            skip -= element.Length;
        }
        throw new InvalidOperationException("a transfer went past its end");
    }

    private sealed class Line
    {
        internal readonly Queue<byte> Fifo = new();
        internal SystemDmaTransfer? Transfer;
        internal ScatterGatherElement[] Elements = [];
        internal Action<DmaCompletionStatus>? Completed;
        internal uint Position;
        internal uint Total;
        internal object? Configured;
    }
}
