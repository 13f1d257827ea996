namespace Sluice.Dma;

/// <summary>
/// The last mappings of adapters that were disposed: a device that uses one afterwards is still told apart from one
/// that makes addresses up. No adapter brings more than a quarter, so that one does not push out all others. Safe from
/// any thread.
/// </summary>
internal sealed class FormerMappings(int capacity)
{
    private readonly Lock _lock = new();
    private MappingRecord[] _records = [];
    private long[] _domains = [];
    private ulong[] _words = [];
    private int _next;

    /// <summary>Takes over what an adapter gave back lately; what it leaked is kept by the leaks.</summary>
    internal void Keep(DmaAdapter adapter)
    {
        List<MappingRecord> gone = [];
        foreach (Mapping mapping in adapter.Table.All)
        {
            if (mapping.TryCapture(out MappingRecord record) && record.State == MappingState.Unmapped)
            {
                gone.Add(record);
            }
        }
        if (gone.Count == 0) { return; }
        gone.Sort(static (a, b) => a.IsLaterThan(b) ? 1 : b.IsLaterThan(a) ? -1 : 0);
        int most = Math.Max(1, capacity / 4);
        lock (_lock)
        {
            if (_records.Length == 0)
            {
                (_records, _domains, _words) = (new MappingRecord[capacity], new long[capacity], new ulong[capacity]);
            }
            for (int i = Math.Max(0, gone.Count - most); i < gone.Count; i++)
            {
                (_records[_next], _domains[_next]) = (gone[i], adapter.Domain.Serial);
                _words[_next] = ReachIndex.Pack(new(gone[i].Reach, gone[i].GuardLast));
                _next = _next + 1 == capacity ? 0 : _next + 1;
            }
        }
    }

    /// <summary>
    /// The last of them that lay at an address, that the device of the scene could reach, and whose right covered what
    /// it tried, or did not.
    /// </summary>
    internal bool TryFind(FaultScene scene, bool allowed, out MappingRecord found)
    {
        (found, bool any) = (default, false);
        lock (_lock)
        {
            int best = -1, from = 0;
            Span<int> near = stackalloc int[16];
            ulong page = scene.Where.First.Value >> 12;
            for (int count = near.Length; count == near.Length;)
            {
                count = ReachIndex.Find(_words, ref from, page, margin: 1, goneToo: true, near);
                foreach (int i in near[..count])
                {
                    ref readonly MappingRecord record = ref _records[i];
                    if (!record.Reach.Overlaps(scene.Where) || !scene.Reached(record.Device, _domains[i])) { continue; }
                    if (scene.Allows(record.Direction) != allowed) { continue; }
                    if (!any || record.IsLaterThan(_records[best])) { (best, any) = (i, true); }
                }
            }
            if (any) { found = _records[best]; }
        }
        return any;
    }

    /// <summary>Copies of them, of one device or of all, those of the last adapter last.</summary>
    internal void AddTo(List<MappingRecord> records, PciAddress? device)
    {
        lock (_lock)
        {
            for (int i = 0; i < _records.Length; i++)
            {
                ref readonly MappingRecord record = ref _records[(_next + i) % _records.Length];
                if (record.Number != 0 && (device is not { } only || record.Device == only)) { records.Add(record); }
            }
        }
    }
}
