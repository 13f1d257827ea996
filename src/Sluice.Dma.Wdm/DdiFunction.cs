#pragma warning disable CS1591 // The names are the DDI's own; docs/ddi.md says of each what it does.

namespace Sluice.Dma.Wdm;

/// <summary>The functions of the DMA DDI, in the order of DMA_OPERATIONS.</summary>
public enum DdiFunction : byte
{
    IoGetDmaAdapter,
    PutDmaAdapter,
    AllocateCommonBuffer,
    FreeCommonBuffer,
    AllocateAdapterChannel,
    FlushAdapterBuffers,
    FreeAdapterChannel,
    FreeMapRegisters,
    MapTransfer,
    GetDmaAlignment,
    ReadDmaCounter,
    GetScatterGatherList,
    PutScatterGatherList,
    CalculateScatterGatherListSize,
    BuildScatterGatherList,
    BuildMdlFromScatterGatherList,
    GetDmaAdapterInfo,
    GetDmaTransferInfo,
    InitializeDmaTransferContext,
    AllocateCommonBufferEx,
    AllocateAdapterChannelEx,
    ConfigureAdapterChannel,
    CancelAdapterChannel,
    MapTransferEx,
    GetScatterGatherListEx,
    BuildScatterGatherListEx,
    FlushAdapterBuffersEx,
    FreeAdapterObject,
    CancelMappedTransfer,
    AllocateDomainCommonBuffer,
    FlushDmaBuffer,
    JoinDmaDomain,
    LeaveDmaDomain,
    GetDmaDomain,
    AllocateCommonBufferWithBounds,
    AllocateCommonBufferVector,
    GetCommonBufferFromVectorByIndex,
    FreeCommonBufferFromVector,
    FreeCommonBufferVector,
    CreateCommonBufferFromMdl,
}

/// <summary>When a function of the DDI came.</summary>
public enum DdiVersion : byte
{
    V1 = 1,
    V2 = 2,
    V3 = 3,
    Windows10 = 10,
    Windows10Version1803 = 11,
    Server2022 = 12,
}
