namespace Sluice.Dma.Wdm;

/// <summary>
/// DMA_ADAPTER and its DMA_OPERATIONS: a driver's way to its device's DMA under the names, levels, statuses and
/// callbacks of the WDM. <see cref="DmaAdapter"/> does the work.
/// </summary>
/// <remarks>
/// Each function checks its level by <see cref="DdiTable"/>; a wrong one is a programming error and throws. So is
/// giving back what is not one's own. All else is a status. Callbacks run at DISPATCH_LEVEL, in the thread of the call
/// when nothing is short, else in the thread that gave back what was missing. Safe from any thread. docs/ddi.md has
/// the table.
/// </remarks>
public sealed partial class WdmAdapter
{
    private readonly WdmDma _dma;
    private DmaReservation? _reserve;

    internal WdmAdapter(
        WdmDma dma, WdmDeviceObject device, WdmDeviceDescription description, DmaAdapter adapter, int registers,
        DmaReservation? reserve)
    {
        (_dma, Device, Description, Adapter, _reserve) = (dma, device, description, adapter, reserve);
        NumberOfMapRegisters = registers;
        adapter.ServeAbove = () => ServeStarved();
    }

    /// <summary>Always 1, whatever version the description had: so the DDI says. What the adapter can do is said by
    /// <see cref="DmaAdapter"/> and <see cref="GetDmaAdapterInfo"/>.</summary>
    public ushort Version { get; } = 1;

    /// <summary>The adapter below.</summary>
    public DmaAdapter Adapter { get; }

    /// <summary>What the driver said of its device.</summary>
    public WdmDeviceDescription Description { get; }

    /// <summary>The device object it was got for.</summary>
    public WdmDeviceObject Device { get; }

    /// <summary>Pages that one transfer may touch.</summary>
    public int NumberOfMapRegisters { get; }

    internal string Driver => Device.Driver;

    private bool IsSubordinate => !Description.Master;

    /// <summary>
    /// PutDmaAdapter: ends the device's DMA. What was not given back is then a leak, with its owner's name; requests
    /// that wait get no channel, and lists without an element.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    public void PutDmaAdapter()
    {
        Enter(DdiFunction.PutDmaAdapter);
        EveryStep.Of(
            () =>
            {
                if (_reserve is { IsBusy: false } reserve) { reserve.Dispose(); }
            },
            () => _dma.Remove(this),
            Adapter.Dispose,
            () => ServeStarved());
    }

    private static DmaDirection Direction(bool writeToDevice) =>
        writeToDevice ? DmaDirection.ToDevice : DmaDirection.FromDevice;

    // Where in the MDL a virtual address is: the DDI takes it for nothing else.
    private NtStatus Locate(Mdl mdl, VirtualAddress currentVa, uint length, out uint offset, out int registers)
    {
        ArgumentNullException.ThrowIfNull(mdl);
        ulong distance = currentVa - VirtualAddress.Of(mdl);
        offset = (uint)distance;
        registers = 0;
        return distance >= mdl.ByteCount ? NtStatus.InvalidParameter : Locate(mdl, distance, length, out registers);
    }

    private NtStatus Locate(Mdl mdl, ulong offset, uint length, out int registers)
    {
        ArgumentNullException.ThrowIfNull(mdl);
        registers = 0;
        if (length == 0) { return NtStatus.InvalidParameter; }
        ulong bytes = mdl.ChainByteCount;
        if (offset >= bytes || offset > uint.MaxValue) { return NtStatus.InvalidParameter; }
        if (length > bytes - offset) { return NtStatus.BufferTooSmall; }
        registers = DmaAdapter.CountMapRegisters(mdl, (uint)offset, length);
        return registers > NumberOfMapRegisters ? NtStatus.InsufficientResources : NtStatus.Success;
    }
}
