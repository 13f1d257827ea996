namespace Sluice.Dma.Wdm;

/// <summary>How a controller is to move the data of one mapped transfer.</summary>
/// <param name="Elements">Where in memory, in order: logical addresses of the adapter.</param>
/// <param name="WriteToDevice">From memory to the device's data register.</param>
/// <param name="DeviceAddress">The data register (V3).</param>
/// <param name="DeviceOffset">Bytes to add to it, as MapTransferEx was told.</param>
/// <param name="Width">How much at a time.</param>
/// <param name="DemandMode">Whether the device's request line paces each unit.</param>
/// <param name="AutoInitialize">Whether it starts again at the first element, until it is cancelled.</param>
public readonly record struct SystemDmaTransfer(
    ScatterGatherList Elements,
    bool WriteToDevice,
    PhysicalAddress DeviceAddress,
    uint DeviceOffset,
    DmaWidth Width,
    bool DemandMode,
    bool AutoInitialize);

/// <summary>
/// The platform's DMA controller: it moves data between memory and devices that are no bus masters. It is a bus master
/// itself, with the device's requester id and the adapter's logical addresses.
/// </summary>
/// <remarks>Called from any thread, at DISPATCH_LEVEL or below. One transfer for each line at a time.</remarks>
public interface ISystemDmaController
{
    /// <summary>Address bits the controller drives.</summary>
    int AddressBits { get; }

    /// <summary>Whether it takes lists.</summary>
    bool ScatterGather { get; }

    /// <summary>The smallest piece it moves, in bytes.</summary>
    int MinimumTransferUnit { get; }

    /// <summary>Whether it has the channel, or request line, that a device is described with.</summary>
    bool Has(WdmDeviceDescription description);

    /// <summary>The line of a device: its request line (V3) or channel.</summary>
    int LineOf(WdmDeviceDescription description);

    /// <summary>
    /// Starts a transfer. <paramref name="completed"/> is called exactly once, at any level, when it is over: complete,
    /// in error, or cancelled.
    /// </summary>
    /// <param name="line">The line; no transfer is under way on it.</param>
    /// <param name="transfer">What to move.</param>
    /// <param name="completed">Says how it ended.</param>
    void Start(int line, in SystemDmaTransfer transfer, Action<DmaCompletionStatus> completed);

    /// <summary>Bytes that are left of the line's transfer; 0 when none is under way.</summary>
    uint ReadCounter(int line);

    /// <summary>Stops the line's transfer, if one is under way; its completion then says cancelled.</summary>
    /// <returns>False when none was under way.</returns>
    bool Cancel(int line);

    /// <summary>A function of this controller alone (ConfigureAdapterChannel).</summary>
    /// <param name="line">The line.</param>
    /// <param name="functionNumber">Its number.</param>
    /// <param name="context">Whatever it takes.</param>
    /// <returns>NotImplemented when it has no such function.</returns>
    NtStatus Configure(int line, uint functionNumber, object? context);
}
