using static Sluice.Dma.Wdm.DdiFunction;

namespace Sluice.Dma.Wdm;

/// <summary>One row of the DDI's table.</summary>
/// <param name="Function">The function.</param>
/// <param name="Number">The row in docs/ddi.md, 1 to 35; 0 for IoGetDmaAdapter, which is before all of them.</param>
/// <param name="Version">When it came.</param>
/// <param name="Rule">At which levels it may be called.</param>
public readonly record struct DdiRow(DdiFunction Function, int Number, DdiVersion Version, IrqlRule Rule);

/// <summary>
/// The functions, the version that brought each, and the levels they may be called at. Every function checks its own
/// row; docs/ddi.md is compared with this table by a test.
/// </summary>
/// <remarks>Levels are the documented ones. Where the documents give none (rows 30, 33, 34), docs/ddi.md says what we
/// decided.</remarks>
public static class DdiTable
{
    private static readonly DdiRow[] AllRows =
    [
        new(IoGetDmaAdapter, 0, DdiVersion.V1, IrqlRule.Passive),
        new(PutDmaAdapter, 1, DdiVersion.V1, IrqlRule.UpToDispatch),
        new(AllocateCommonBuffer, 2, DdiVersion.V1, IrqlRule.Passive),
        new(FreeCommonBuffer, 3, DdiVersion.V1, IrqlRule.Passive),
        new(AllocateAdapterChannel, 4, DdiVersion.V1, IrqlRule.Dispatch),
        new(FlushAdapterBuffers, 5, DdiVersion.V1, IrqlRule.UpToDispatch),
        new(FreeAdapterChannel, 6, DdiVersion.V1, IrqlRule.Dispatch),
        new(FreeMapRegisters, 7, DdiVersion.V1, IrqlRule.Dispatch),
        new(MapTransfer, 8, DdiVersion.V1, IrqlRule.UpToDispatch),
        new(GetDmaAlignment, 9, DdiVersion.V1, IrqlRule.Passive),
        new(ReadDmaCounter, 10, DdiVersion.V1, IrqlRule.UpToDispatch),
        new(GetScatterGatherList, 11, DdiVersion.V1, IrqlRule.Dispatch),
        new(PutScatterGatherList, 12, DdiVersion.V1, IrqlRule.Dispatch),
        new(CalculateScatterGatherListSize, 13, DdiVersion.V2, IrqlRule.Any),
        new(BuildScatterGatherList, 14, DdiVersion.V2, IrqlRule.Dispatch),
        new(BuildMdlFromScatterGatherList, 15, DdiVersion.V2, IrqlRule.UpToDispatch),
        new(GetDmaAdapterInfo, 16, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(GetDmaTransferInfo, 17, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(InitializeDmaTransferContext, 18, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(AllocateCommonBufferEx, 19, DdiVersion.V3, IrqlRule.Passive),
        new(AllocateAdapterChannelEx, 20, DdiVersion.V3, IrqlRule.Dispatch),
        new(ConfigureAdapterChannel, 21, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(CancelAdapterChannel, 22, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(MapTransferEx, 23, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(GetScatterGatherListEx, 24, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(BuildScatterGatherListEx, 25, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(FlushAdapterBuffersEx, 26, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(FreeAdapterObject, 27, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(CancelMappedTransfer, 28, DdiVersion.V3, IrqlRule.UpToDispatch),
        new(AllocateDomainCommonBuffer, 29, DdiVersion.Windows10, IrqlRule.Passive),
        new(FlushDmaBuffer, 30, DdiVersion.Windows10, IrqlRule.UpToDispatch),
        new(JoinDmaDomain, 31, DdiVersion.Windows10, IrqlRule.Passive),
        new(LeaveDmaDomain, 31, DdiVersion.Windows10, IrqlRule.Passive),
        new(GetDmaDomain, 31, DdiVersion.Windows10, IrqlRule.Passive),
        new(AllocateCommonBufferWithBounds, 32, DdiVersion.Windows10Version1803, IrqlRule.Passive),
        new(AllocateCommonBufferVector, 33, DdiVersion.Windows10Version1803, IrqlRule.Passive),
        new(GetCommonBufferFromVectorByIndex, 34, DdiVersion.Windows10Version1803, IrqlRule.UpToDispatch),
        new(FreeCommonBufferFromVector, 34, DdiVersion.Windows10Version1803, IrqlRule.Passive),
        new(FreeCommonBufferVector, 34, DdiVersion.Windows10Version1803, IrqlRule.Passive),
        new(CreateCommonBufferFromMdl, 35, DdiVersion.Server2022, IrqlRule.Passive),
    ];

    /// <summary>The table, in order.</summary>
    public static IReadOnlyList<DdiRow> Rows => AllRows;

    /// <summary>At which levels a function may be called.</summary>
    public static IrqlRule RuleOf(DdiFunction function) => AllRows[(int)function].Rule;
}
