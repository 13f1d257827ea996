namespace Sluice.Dma;

/// <summary>
/// A transfer or common buffer that its driver never gave back. Its memory and logical addresses stay out of
/// circulation, because the device may still use them, until <see cref="Release"/>.
/// </summary>
/// <remarks>Safe from any thread.</remarks>
public sealed class DmaLeak
{
    private readonly DmaAdapter _adapter;
    private Mapping? _mapping;

    internal DmaLeak(DmaAdapter adapter, Mapping mapping, in MappingRecord record) =>
        (_adapter, _mapping, Mapping) = (adapter, mapping, record);

    /// <summary>What was leaked, by whom, and where it was asked for.</summary>
    public MappingRecord Mapping { get; }

    /// <summary>Whether its memory is back in circulation.</summary>
    public bool IsReleased => Volatile.Read(ref _mapping) is null;

    /// <summary>
    /// Ends the quarantine. Only when the device was reset or is gone: whatever it still does would hit the memory's
    /// next owner. Harmless twice.
    /// </summary>
    public void Release()
    {
        if (Interlocked.Exchange(ref _mapping, null) is { } mapping) { _adapter.ReleaseLeak(mapping); }
    }

    /// <summary>
    /// As <c>nvme 0000:00:04.0 leaked mapping #3 [0xFFFE3000, 8192 bytes, FromDevice] of
    /// NvmeQueuePair.SubmitRead</c>.
    /// </summary>
    public override string ToString() =>
        $"{Mapping.Owner} {Mapping.Device} leaked {(Mapping.IsCommonBuffer ? "common buffer" : "mapping")} "
        + $"#{Mapping.Number} [{Mapping.First}, {Mapping.Length} bytes, {Mapping.Direction}] of {Mapping.MapSite}";
}
