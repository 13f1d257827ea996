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

    // Null when the device's DMA had ended before the request's turn came: then nothing can be mapped.
    internal readonly DmaChannel? Channel;
    internal readonly DmaTransferContext? Transfer;

    // Version 1 to 2: one piece for each MapTransfer that was not flushed.
    internal readonly List<MappedRun> Runs = [];

    // Version 3: what the last MapTransferEx mapped, until it is flushed; and whether one is mapping now, which it does
    // outside the lock. It writes what it mapped first, and whoever looks does so the other way round.
    internal MappedTransfer? Mapped;
    internal volatile bool IsMapping;

    // Runs when the routine that was given this has returned and what it gave back is free.
    internal Action? Afterwards;

    // What verification remembers; null while it is off.
    internal readonly VerifiedRegisters? Verified;

    // Under the lock, all four. Whether its AdapterControl has still to say what stays; whether the channel itself was
    // given up, and only the registers are kept; whether all was freed; and by which function, when that came before
    // its AdapterControl returned: a deferred call on another processor may be so early.
    internal bool InControl;
    internal bool RegistersOnly;
    internal volatile bool IsFreed;
    internal DdiFunction? FreedEarly;

    internal MapRegisterBase(
        WdmAdapter adapter, WdmDeviceObject device, DmaChannel? channel, int registers, DmaTransferContext? transfer)
    {
        (Adapter, Device, Channel, NumberOfMapRegisters) = (adapter, device, channel, registers);
        (Transfer, Verified) = (transfer, adapter.Adapter.Verifier is { } verifier ? new(verifier, registers) : null);
    }

    /// <summary>How many.</summary>
    public int NumberOfMapRegisters { get; }

    internal bool IsMapped => Runs.Count > 0 || IsMapping || Mapped is not null;
}

/// <summary>A run that MapTransfer mapped.</summary>
internal readonly record struct MappedRun(
    Mdl Mdl, uint Offset, uint Length, DmaDirection Direction, ScatterGatherLease Lease);

/// <summary>What MapTransferEx mapped.</summary>
internal sealed record MappedTransfer(
    Mdl Mdl, uint Offset, uint Length, DmaDirection Direction, ScatterGatherList List);
