namespace Sluice.Machines.Nvme;

/// <summary>
/// How a command ended, as it stands in a completion entry above the phase tag: code in bits 7:0, type in 10:8,
/// "do not retry" in bit 14.
/// </summary>
/// <remarks>NVM Express base specification 1.4, figures 126 to 131.</remarks>
internal enum NvmeStatus : ushort
{
    Success = 0,
    InvalidOpcode = 0x001,
    InvalidField = 0x002,
    DataTransferError = 0x004,
    AbortRequested = 0x007,
    AbortedSubmissionQueueDeletion = 0x008,
    InvalidNamespace = 0x00B,
    CommandSequenceError = 0x00C,
    InvalidPrpOffset = 0x013,
    NamespaceWriteProtected = 0x020,
    BlockOutOfRange = 0x080,

    CompletionQueueInvalid = 0x100,
    InvalidQueueIdentifier = 0x101,
    InvalidQueueSize = 0x102,
    AsyncEventLimitExceeded = 0x105,
    InvalidInterruptVector = 0x108,
    InvalidLogPage = 0x109,
    InvalidQueueDeletion = 0x10C,
    FeatureNotSaveable = 0x10D,
    FeatureNotChangeable = 0x10E,

    WriteFault = 0x280,
    UnrecoveredReadError = 0x281,
    CompareFailure = 0x285,

    /// <summary>Asking again with the same command would fail again.</summary>
    DoNotRetry = 0x4000,
}
