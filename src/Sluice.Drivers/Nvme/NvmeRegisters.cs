namespace Sluice.Drivers.Nvme;

/// <summary>The controller's registers as a driver uses them. All ones mean that the device is gone.</summary>
/// <remarks>NVM Express base specification 1.4, 3.1.</remarks>
internal sealed class NvmeRegisters(RegisterWindow window)
{
    private const uint Cap = 0x00, Vs = 0x08, Cc = 0x14, Csts = 0x1C, Aqa = 0x24, Asq = 0x28, Acq = 0x30;
    private const uint Doorbells = 0x1000;
    private const uint EnableBit = 1;

    // 64-byte commands, 16-byte completions, 4 KiB pages, round robin, NVM commands.
    private const uint Running = EnableBit | (6u << 16) | (4u << 20);
    private const uint NormalShutdown = 1u << 14;

    private readonly ulong _cap = window.Read64(Cap);

    public bool IsGone => _cap == ulong.MaxValue;

    public uint MaxQueueEntries => (uint)(_cap & 0xFFFF) + 1;

    public bool SupportsNvmCommands => ((_cap >> 37) & 1) != 0;

    public bool SupportsSmallPages => ((_cap >> 48) & 0xF) == 0;

    /// <summary>
    /// How long the controller may take to become ready or stop (CAP.TO, in halves of a second, at least one).
    /// </summary>
    public long ReadyTimeout => Math.Max((long)((_cap >> 24) & 0xFF), 1) * 500_000_000;

    public uint Version => window.Read32(Vs);

    public uint Status => window.Read32(Csts);

    /// <summary>CC.EN as it was written last, by whomever: firmware may have left it on.</summary>
    public bool IsEnabled => window.Read32(Cc) is not uint.MaxValue and var configuration
        && (configuration & EnableBit) != 0;

    /// <summary>Whether the doorbells of queue pairs 0 to <paramref name="last"/> lie in the registers.</summary>
    public bool HasDoorbells(int last) => Doorbells + (((2UL * (uint)last) + 2) << Stride) <= window.Length;

    public static bool IsReady(uint status) => (status & 1) != 0;

    public static bool IsFatal(uint status) => status == uint.MaxValue || (status & 2) != 0;

    public static bool HasShutDown(uint status) => ((status >> 2) & 3) == 2;

    public void SetAdminQueue(LogicalAddress submissions, LogicalAddress completions, uint entries)
    {
        window.Write32(Aqa, (entries - 1) | ((entries - 1) << 16));
        window.Write64(Asq, submissions.Value);
        window.Write64(Acq, completions.Value);
    }

    public void Enable() => window.Write32(Cc, Running);

    public void Disable() => window.Write32(Cc, Running & ~EnableBit);

    public void ShutDown() => window.Write32(Cc, Running | NormalShutdown);

    public uint SubmissionDoorbell(int queue) => Doorbells + ((uint)(2 * queue) << Stride);

    public uint CompletionDoorbell(int queue) => Doorbells + ((uint)((2 * queue) + 1) << Stride);

    public void Ring(uint doorbell, uint value) => window.Write32(doorbell, value);

    private int Stride => 2 + (int)((_cap >> 32) & 0xF);
}
