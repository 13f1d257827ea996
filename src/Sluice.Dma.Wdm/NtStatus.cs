namespace Sluice.Dma.Wdm;

/// <summary>The status codes that the DMA DDI returns: the values of ntstatus.h and wdfstatus.h.</summary>
/// <remarks>
/// Two codes of KMDF 1.19 are documented by name only. They carry values of the customer range here (bit 29), so that
/// no one takes them for Microsoft's.
/// </remarks>
public enum NtStatus : uint
{
    /// <summary>Done, or queued: the callback runs or ran.</summary>
    Success = 0x0000_0000,

    /// <summary>A warning: the device object already has a request in the queue.</summary>
    DeviceBusy = 0x8000_0011,

    /// <summary>The function does not exist for this kind of adapter or controller.</summary>
    NotImplemented = 0xC000_0002,

    /// <summary>A parameter, or a combination of them, that the function does not take.</summary>
    InvalidParameter = 0xC000_000D,

    /// <summary>The object is in no state for this.</summary>
    InvalidDeviceRequest = 0xC000_0010,

    /// <summary>KMDF: the transaction goes on with its next transfer.</summary>
    MoreProcessingRequired = 0xC000_0016,

    /// <summary>A page of the buffer is no buffer: no device may reach it.</summary>
    AccessDenied = 0xC000_0022,

    /// <summary>A buffer, or an MDL, is shorter than what was asked of it.</summary>
    BufferTooSmall = 0xC000_0023,

    /// <summary>The list was already described by an MDL.</summary>
    NoneMapped = 0xC000_0073,

    /// <summary>Memory or map registers do not suffice.</summary>
    InsufficientResources = 0xC000_009A,

    /// <summary>The device's DMA was declared dead: it is blocked.</summary>
    DeviceNotConnected = 0xC000_009D,

    /// <summary>This version, or this configuration, is not supported.</summary>
    NotSupported = 0xC000_00BB,

    /// <summary>It was cancelled.</summary>
    Cancelled = 0xC000_0120,

    /// <summary>KMDF: more elements than the device takes.</summary>
    WdfTooFragmented = 0xC020_020A,

    /// <summary>KMDF 1.19: longer than one transfer, and one transfer was required.</summary>
    WdfTooManyTransfers = 0xE020_0001,

    /// <summary>KMDF 1.19: more map registers than the adapter, or the reservation, has.</summary>
    WdfNotEnoughMapRegisters = 0xE020_0002,
}

/// <summary>What a status means.</summary>
public static class NtStatusExtensions
{
    /// <summary>NT_SUCCESS: success or information, neither warning nor error.</summary>
    public static bool IsSuccess(this NtStatus status) => (int)status >= 0;

    internal static NtStatus ToStatus(this DmaFailure failure) => failure switch
    {
        DmaFailure.None => NtStatus.Success,
        DmaFailure.NotABuffer => NtStatus.AccessDenied,
        DmaFailure.Dead => NtStatus.DeviceNotConnected,
        DmaFailure.Disposed => NtStatus.InvalidDeviceRequest,
        DmaFailure.RuleBroken => NtStatus.InvalidParameter,
        _ => NtStatus.InsufficientResources,
    };
}
