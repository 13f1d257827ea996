namespace Sluice.Dma.Wdm;

/// <summary>
/// The map registers of one channel request, as AdapterControl or a synchronous call hands them out. Opaque: it is
/// given back to the functions that map, flush and free.
/// </summary>
public sealed class MapRegisterBase
{
    internal readonly Lock Lock = new();
    internal readonly WdmAdapter Adapter;
    internal readonly WdmDeviceObject Device;
    internal readonly DmaChannel Channel;
    internal readonly DmaTransferContext? Transfer;

    // Version 1 to 2: one piece for each MapTransfer that was not flushed.
    internal readonly List<MappedRun> Runs = [];

    // Version 3: what the last MapTransferEx mapped, until it is flushed.
    internal MappedTransfer? Mapped;

    // What verification remembers; null while it is off.
    internal readonly VerifiedRegisters? Verified;

    // Whether the channel itself was given up, and only the registers are kept.
    internal bool RegistersOnly;
    internal bool IsFreed;

    internal MapRegisterBase(
        WdmAdapter adapter, WdmDeviceObject device, DmaChannel channel, DmaTransferContext? transfer) =>
        (Adapter, Device, Channel, Transfer, Verified) = (adapter, device, channel, transfer,
            adapter.Adapter.Verifier is { } verifier ? new(verifier, channel.MapRegisters) : null);

    /// <summary>How many.</summary>
    public int NumberOfMapRegisters => Channel.MapRegisters;

    internal bool IsMapped => Runs.Count > 0 || Mapped is not null;
}

/// <summary>A run that MapTransfer mapped.</summary>
internal readonly record struct MappedRun(
    Mdl Mdl, uint Offset, uint Length, DmaDirection Direction, ScatterGatherLease Lease);

/// <summary>What MapTransferEx mapped.</summary>
internal sealed record MappedTransfer(
    Mdl Mdl, uint Offset, uint Length, DmaDirection Direction, ScatterGatherList List);
