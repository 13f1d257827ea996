namespace Sluice.Dma;

/// <summary>What a client may take.</summary>
public sealed record DmaSessionOptions
{
    /// <summary>Pages of memory that its buffers may pin at once, at least 1.</summary>
    public int QuotaPages { get; init; } = 1024;

    /// <summary>Buffers and mappings that it may hold at once, at least 1.</summary>
    public int QuotaHandles { get; init; } = 256;

    internal void Validate()
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(QuotaPages, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(QuotaHandles, 1);
    }
}
