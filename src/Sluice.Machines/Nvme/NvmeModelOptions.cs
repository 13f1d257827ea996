namespace Sluice.Machines.Nvme;

/// <summary>What kind of NVMe controller to build.</summary>
public sealed record NvmeModelOptions
{
    /// <summary>The logical block size as a power of two: 9 (512 bytes) to 12.</summary>
    public int BlockSizeLog2 { get; init; } = 9;

    /// <summary>
    /// The longest transfer of one command (MDTS) as a power of two in bytes: 13 to 28, or <see cref="NoLimit"/>. One
    /// page of 4 KiB cannot be said: MDTS 0 means no limit.
    /// </summary>
    public int MaxTransferLog2 { get; init; } = 19;

    /// <summary>
    /// For <see cref="MaxTransferLog2"/>: a command may be as long as its block count can say, 65,536 blocks.
    /// </summary>
    public const int NoLimit = 0;

    /// <summary>Entries of the longest queue (CAP.MQES + 1): 2 to 4096.</summary>
    public int MaxQueueEntries { get; init; } = 2048;

    /// <summary>
    /// I/O queue pairs, 1 to 63; each may have an interrupt vector beside the admin queue's vector 0.
    /// </summary>
    public int QueuePairs { get; init; } = 16;

    /// <summary>The serial number, at most 20 ASCII characters.</summary>
    public string Serial { get; init; } = "SLUICE0001";

    /// <summary>The model name, at most 40 ASCII characters.</summary>
    public string Model { get; init; } = "Sluice NVMe Controller";

    /// <summary>The temperature that the health log shows, in kelvin.</summary>
    public int Temperature { get; init; } = 323;

    /// <summary>Bytes of the longest command: the limit, or 65,536 blocks.</summary>
    internal long MaxTransferBytes => Math.Min(
        MaxTransferLog2 == NoLimit ? long.MaxValue : 1L << MaxTransferLog2, 1L << (16 + BlockSizeLog2));

    internal void Check()
    {
        Require(BlockSizeLog2 is >= 9 and <= 12, nameof(BlockSizeLog2), "9 to 12");
        Require(
            MaxTransferLog2 is NoLimit or (>= 13 and <= 28), nameof(MaxTransferLog2), "13 to 28, or 0 for no limit");
        Require(MaxQueueEntries is >= 2 and <= 4096, nameof(MaxQueueEntries), "2 to 4096");
        Require(QueuePairs is >= 1 and <= 63, nameof(QueuePairs), "1 to 63");
        Require(Serial is { Length: > 0 and <= 20 }, nameof(Serial), "1 to 20 characters");
        Require(Model is { Length: > 0 and <= 40 }, nameof(Model), "1 to 40 characters");
    }

    private static void Require(bool holds, string name, string range)
    {
        if (!holds) { throw new ArgumentOutOfRangeException(name, $"{name} must be {range}"); }
    }
}
