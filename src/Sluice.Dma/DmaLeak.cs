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

    // Null when the driver gave it back: then the record serves another mapping by now.
    private readonly Mapping? _mapping;
    private readonly List<PhysicalAddress> _pages;
    private int _state;

    internal DmaLeak(
        DmaAdapter adapter, Mapping? mapping, in MappingRecord record, List<PhysicalAddress> pages) =>
        (_adapter, _mapping, Mapping, _pages) = (adapter, mapping, record, pages);

    /// <summary>What was leaked, by whom, and where it was asked for.</summary>
    public MappingRecord Mapping { get; }

    /// <summary>
    /// Whether the leak is over: its memory is its owner's again, or free, unless another leak has it too.
    /// </summary>
    public bool IsReleased => Volatile.Read(ref _state) == Released;

    /// <summary>
    /// Ends the quarantine. Only when the device was reset or is gone: whatever it still does would hit the memory's
    /// next owner. Harmless twice. After the adapter's end, where its unit does not confirm that neither the device nor
    /// others in its domain reach the memory, that stays in quarantine for good, and <see cref="IsReleased"/> false.
    /// </summary>
    public void Release()
    {
        if (Interlocked.CompareExchange(ref _state, Ending, Stands) != Stands) { return; }
        bool over = _mapping is { } mapping ? _adapter.ReleaseLeak(mapping, _pages) : _adapter.ReleaseLost(_pages);
        if (!over) { return; }
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
