namespace Sluice.Dma.Wdm;

/// <summary>DMA_ADAPTER_INFO_V1.</summary>
/// <param name="ReadDmaCounterAvailable">Whether <see cref="WdmAdapter.ReadDmaCounter"/> says anything.</param>
/// <param name="ScatterGatherLimit">Elements one transfer may have.</param>
/// <param name="DmaAddressWidth">Address bits of the device or its controller.</param>
/// <param name="Flags">None are defined.</param>
/// <param name="MinimumTransferUnit">The smallest piece, in bytes.</param>
public readonly record struct DmaAdapterInfo(
    bool ReadDmaCounterAvailable, int ScatterGatherLimit, int DmaAddressWidth, uint Flags, int MinimumTransferUnit);

/// <summary>DMA_TRANSFER_INFO_V1 and V2: what one transfer needs.</summary>
/// <param name="MapRegisterCount">Map registers.</param>
/// <param name="ScatterGatherElementCount">Elements at most.</param>
/// <param name="ScatterGatherListSize">Bytes for a <see cref="ScatterGatherBuffer"/>.</param>
/// <param name="LogicalPageCount">V2: pages it takes up on the bus; 0 in V1.</param>
public readonly record struct DmaTransferInfo(
    int MapRegisterCount, int ScatterGatherElementCount, int ScatterGatherListSize, int LogicalPageCount);

// Rows 9, 16, 17: what adapter and transfer are like.
public sealed partial class WdmAdapter
{
    /// <summary>
    /// GetDmaAlignment: what start and length of a buffer must be multiples of, in bytes (not a mask).
    /// </summary>
    /// <remarks>At PASSIVE_LEVEL.</remarks>
    public int GetDmaAlignment()
    {
        Enter(DdiFunction.GetDmaAlignment);
        return IsSubordinate ? 1 << (int)Description.DmaWidth : 1;
    }

    /// <summary>GetDmaAdapterInfo: what the adapter can do.</summary>
    /// <remarks>At DISPATCH_LEVEL or below.</remarks>
    /// <param name="version">1.</param>
    /// <param name="info">The answer.</param>
    /// <returns>Success; NotSupported: another version.</returns>
    public NtStatus GetDmaAdapterInfo(int version, out DmaAdapterInfo info)
    {
        Enter(DdiFunction.GetDmaAdapterInfo);
        info = default;
        if (version != 1) { return NtStatus.NotSupported; }
        DeviceDescription device = Adapter.Description;
        info = new(
            IsSubordinate && !Description.IgnoreCount, device.ScatterGather ? NumberOfMapRegisters : 1,
            device.AddressBits, 0, IsSubordinate ? Controller.MinimumTransferUnit : 1);
        return NtStatus.Success;
    }

    /// <summary>GetDmaTransferInfo: what a transfer of a buffer needs.</summary>
    /// <remarks>
    /// At DISPATCH_LEVEL or below. It counts, and promises nothing: more map registers than were granted are counted
    /// too.
    /// </remarks>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="writeOnly">Whether only the device reads: the answer then need not hold for the other way.</param>
    /// <param name="version">1 or 2.</param>
    /// <param name="info">The answer.</param>
    /// <returns>Success; NotSupported: another version; InvalidParameter: a range that the chain does not
    /// have.</returns>
    public NtStatus GetDmaTransferInfo(
        Mdl mdl, ulong offset, uint length, bool writeOnly, int version, out DmaTransferInfo info)
    {
        Enter(DdiFunction.GetDmaTransferInfo);
        info = default;
        if (version is not (1 or 2)) { return NtStatus.NotSupported; }
        NtStatus status = Locate(mdl, offset, length, out int registers);
        if (status is NtStatus.InvalidParameter or NtStatus.BufferTooSmall) { return NtStatus.InvalidParameter; }
        info = new(registers, registers, ScatterGatherBuffer.BytesFor(registers), version == 2 ? registers : 0);
        return NtStatus.Success;
    }
}
