namespace Sluice.Drivers.Nvme;

/// <summary>How to drive an NVMe controller. Times are in nanoseconds on the platform clock.</summary>
public sealed record NvmeOptions
{
    /// <summary>Commands in flight per queue pair, 2 to 1023; the controller may support fewer.</summary>
    public int QueueDepth { get; init; } = 255;

    /// <summary>I/O queue pairs, 1 to 16; threads are spread over them. The controller may grant fewer.</summary>
    public int QueuePairs { get; init; } = 1;

    /// <summary>
    /// Complete requests from the interrupt handler. Without it (or without vectors) they complete when someone calls
    /// <see cref="NvmeController.Poll"/> or waits synchronously, and at the latest at the next turn of the watchdog.
    /// </summary>
    public bool UseInterrupts { get; init; } = true;

    /// <summary>
    /// The longest transfer of one command in bytes, a power of two from 4096; the controller's limit applies too.
    /// </summary>
    public uint MaxTransferBytes { get; init; } = 512 << 10;

    /// <summary>
    /// How long a command may take before the driver aborts it; half as long again, and it resets the controller.
    /// </summary>
    public long CommandTimeout { get; init; } = 5_000_000_000;

    /// <summary>How long an admin command may take.</summary>
    public long AdminTimeout { get; init; } = 2_000_000_000;

    internal void Validate()
    {
        Require(QueueDepth is >= 2 and <= 1023, nameof(QueueDepth), "2 to 1023");
        Require(QueuePairs is >= 1 and <= 16, nameof(QueuePairs), "1 to 16");
        bool isTransfer = System.Numerics.BitOperations.IsPow2(MaxTransferBytes)
            && MaxTransferBytes is >= 4096 and <= 1 << 20;
        Require(isTransfer, nameof(MaxTransferBytes), "a power of two from 4096 to 1048576");
        Require(CommandTimeout >= 1_000_000, nameof(CommandTimeout), "at least a millisecond");
        Require(AdminTimeout >= 1_000_000, nameof(AdminTimeout), "at least a millisecond");
    }

    private static void Require(bool holds, string name, string range)
    {
        if (!holds) { throw new ArgumentOutOfRangeException(name, $"{name} must be {range}"); }
    }
}
