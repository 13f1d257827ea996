namespace Sluice.Machines.Nvme;

/// <summary>Offsets in BAR 0 and the fields of the registers there.</summary>
/// <remarks>NVM Express base specification 1.4, 3.1.</remarks>
internal static class NvmeRegister
{
    public const uint Capabilities = 0x00;
    public const uint Version = 0x08;
    public const uint InterruptMaskSet = 0x0C;
    public const uint InterruptMaskClear = 0x10;
    public const uint Configuration = 0x14;
    public const uint Status = 0x1C;
    public const uint AdminQueueAttributes = 0x24;
    public const uint AdminSubmissionQueue = 0x28;
    public const uint AdminCompletionQueue = 0x30;
    public const uint Doorbells = 0x1000;

    public const uint Version14 = 0x0001_0400;

    public const uint Ready = 1 << 0;
    public const uint FatalStatus = 1 << 1;
    public const uint ShutdownComplete = 2 << 2;
    public const uint ShutdownMask = 3 << 2;

    public const uint Enable = 1 << 0;

    /// <summary>The bits of CC that hold something; the rest reads as zero.</summary>
    public const uint ConfigurationMask = 0x00FF_FFF1;

    /// <summary>Largest memory page: 2^(12 + 4) bytes.</summary>
    public const int MaxPageLog2 = 16;

    /// <summary>
    /// MQES, CQR, TO 7.5 s, CSS: NVM commands, MPSMIN 4 KiB, MPSMAX 64 KiB; doorbells are 4 bytes apart.
    /// </summary>
    public static ulong CapabilitiesWord(int maxQueueEntries) =>
        (uint)(maxQueueEntries - 1) | (1UL << 16) | (0xFUL << 24) | (1UL << 37) | (4UL << 52);

    public static int PageLog2(uint configuration) => 12 + (int)((configuration >> 7) & 0xF);

    public static uint CommandSet(uint configuration) => (configuration >> 4) & 7;

    public static uint Arbitration(uint configuration) => (configuration >> 11) & 7;

    public static uint Shutdown(uint configuration) => (configuration >> 14) & 3;

    /// <summary>Whether CC names the only entry sizes there are: 64-byte commands, 16-byte completions.</summary>
    public static bool HasRightEntrySizes(uint configuration) =>
        ((configuration >> 16) & 0xF) == SubmissionEntry.BytesLog2
        && ((configuration >> 20) & 0xF) == CompletionEntry.BytesLog2;
}
