namespace Sluice.Dma;

/// <summary>
/// A transfer or common buffer that its driver never gave back, or that it gave back under the deferred policy and
/// that no unit confirmed to be out of reach. Its memory and logical addresses stay out of circulation, because the
/// device may still use them, until <see cref="Release"/>.
/// </summary>
/// <remarks>Safe from any thread.</remarks>
public sealed class DmaLeak
{
    private const int Stands = 0;
    private const int Ending = 1;
    private const int Released = 2;
    private readonly DmaAdapter _adapter;

    // Null when the driver gave it back: then the record serves another mapping by now, as it does after the release.
    private readonly Mapping? _mapping;
    private readonly List<PhysicalAddress> _pages;

    // Where it was mapped: the device may have moved since.
    private readonly DmaDomain _domain;
    private int _state;

    internal DmaLeak(
        DmaAdapter adapter, Mapping? mapping, in MappingRecord record, List<PhysicalAddress> pages) =>
        (_adapter, _mapping, Mapping, _pages, _domain) = (adapter, mapping, record, pages, adapter.Domain);

    /// <summary>What was leaked, by whom, and where it was asked for.</summary>
    public MappingRecord Mapping { get; }

    /// <summary>
    /// Whether the leak is over: its memory is its owner's again, or free, unless another leak has it too.
    /// </summary>
    public bool IsReleased => Volatile.Read(ref _state) == Released;

    /// <summary>
    /// Ends the quarantine. Only when the device was reset or is gone: whatever it still does would hit the memory's
    /// next owner. Harmless twice. The caller speaks for the adapter's own device, while the adapter is open. Where
    /// others are or were in its domain, or the adapter has ended, and a unit does not confirm that none of them reaches the
    /// memory, that stays in quarantine and <see cref="IsReleased"/> false. Ask again when they have left.
    /// </summary>
    public void Release()
    {
        if (Interlocked.CompareExchange(ref _state, Ending, Stands) != Stands) { return; }
        bool over = _mapping is { } mapping
            ? _adapter.ReleaseLeak(mapping, _pages)
            : _adapter.ReleaseLost(_pages, _domain);
        if (!over)
        {
            Volatile.Write(ref _state, Stands);
            return;
        }
        Volatile.Write(ref _state, Released);
        _adapter.WakeForPages();
    }

    /// <summary>
    /// As <c>nvme 0000:00:04.0 leaked mapping #3 [0xFFFE3000, 8192 bytes, FromDevice] of
    /// NvmeQueuePair.SubmitRead</c>.
    /// </summary>
    public override string ToString() =>
        $"{Mapping.Owner} {Mapping.Device} leaked {(Mapping.IsCommonBuffer ? "common buffer" : "mapping")} "
        + $"#{Mapping.Number} [{Mapping.First}, {Mapping.Length} bytes, {Mapping.Direction}] of {Mapping.MapSite}";
}
