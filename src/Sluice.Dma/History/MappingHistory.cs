namespace Sluice.Dma;

/// <summary>
/// What every adapter of a system mapped: all that is live, and the last that was given back, also by adapters that
/// were disposed since.
/// </summary>
/// <remarks>Reading takes no lock and stops nobody; a record that changes while it is read is left out.</remarks>
public sealed class MappingHistory
{
    private readonly DmaSystem _system;

    internal MappingHistory(DmaSystem system) => _system = system;

    /// <summary>
    /// Copies of all records in memory, of one device or of all; those of disposed adapters first, and newest number
    /// last for each adapter.
    /// </summary>
    public IReadOnlyList<MappingRecord> Read(PciAddress? device = null)
    {
        List<MappingRecord> records = [];
        _system.Former.AddTo(records, device);
        foreach (DmaAdapter adapter in _system.Adapters)
        {
            if (device is { } only && adapter.Device != only) { continue; }
            int start = records.Count;
            foreach (Mapping mapping in adapter.Table.All)
            {
                if (mapping.TryCapture(out MappingRecord record)) { records.Add(record); }
            }
            records.Sort(start, records.Count - start,
                Comparer<MappingRecord>.Create(static (a, b) => a.Number.CompareTo(b.Number)));
        }
        return records;
    }
}
