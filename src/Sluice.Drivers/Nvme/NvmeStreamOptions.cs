namespace Sluice.Drivers.Nvme;

/// <summary>How a stream over a namespace works.</summary>
public sealed record NvmeStreamOptions
{
    /// <summary>
    /// Where the stream ends, in bytes, when that is not at the end of the last block; null for there.
    /// </summary>
    public long? Length { get; init; }

    /// <summary>Bytes of one buffer: a multiple of 4096, from 4096 to 16 MiB.</summary>
    public int BufferBytes { get; init; } = 256 << 10;

    /// <summary>Buffers, hence requests in flight while reading or writing in sequence: 1 to 64.</summary>
    public int Buffers { get; init; } = 6;

    internal void Validate(NvmeNamespace target)
    {
        Require(Length is null || (Length >= 0 && Length <= target.Length), nameof(Length), "within the namespace");
        bool isWhole = BufferBytes is >= 4096 and <= 16 << 20 && BufferBytes % 4096 == 0;
        Require(isWhole, nameof(BufferBytes), "a multiple of 4096 up to 16 MiB");
        Require(Buffers is >= 1 and <= 64, nameof(Buffers), "1 to 64");
    }

    private static void Require(bool holds, string name, string range)
    {
        if (!holds) { throw new ArgumentOutOfRangeException(name, $"{name} must be {range}"); }
    }
}
