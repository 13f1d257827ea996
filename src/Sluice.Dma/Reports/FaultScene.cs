namespace Sluice.Dma;

/// <summary>
/// Everything known about one refused DMA when its record is read: what the rules of <see cref="FaultClassifier"/>
/// look at.
/// </summary>
internal sealed class FaultScene
{
    private const ulong NearBytes = 1 << 20;

    internal FaultScene(DmaSystem system, in DmaFault fault, IPhysicalRegionNames? names)
    {
        (System, Fault, Names) = (system, fault, names);
        ulong bytes = (1UL << fault.GranularityLog2) - 1;
        Where = new(fault.Address, new(fault.Address.Value | bytes));
        Suspects = system.AdaptersBehind(fault.Device);
        Adapter = Suspects.Length == 1 ? Suspects[0] : null;
        Mates = Suspects;
        foreach (DmaAdapter adapter in system.Adapters)
        {
            bool shares = Array.Exists(Suspects, one => one != adapter && one.Domain == adapter.Domain);
            if (shares && !Mates.Contains(adapter)) { Mates = [.. Mates, adapter]; }
        }
        Own = [.. Mates.SelectMany(mate => system.History.Read(mate.Device))];
    }

    internal DmaSystem System { get; }

    internal DmaFault Fault { get; }

    internal IPhysicalRegionNames? Names { get; }

    /// <summary>The addresses the record may mean: a page, or a byte.</summary>
    internal LogicalRange Where { get; }

    /// <summary>The device's adapter; null when it has none, or when several functions carry the id.</summary>
    internal DmaAdapter? Adapter { get; }

    /// <summary>The adapters of all functions that carry the id.</summary>
    internal DmaAdapter[] Suspects { get; }

    /// <summary>Those, and all that share a domain with them: what they map, the device reaches.</summary>
    internal DmaAdapter[] Mates { get; }

    /// <summary>What the drivers in the device's domain mapped and gave back lately, by number for each.</summary>
    internal IReadOnlyList<MappingRecord> Own { get; }

    /// <summary>Whether a mapping's right covers what the device tried.</summary>
    internal bool Allows(in MappingRecord record) => (record.Direction.ToAccess() & Fault.Access) == Fault.Access;

    /// <summary>A report with what every kind has.</summary>
    internal DmaReport Report(DmaReportKind kind, MappingRecord? mapping = null, string? cause = null) => new()
    {
        Kind = kind,
        Fault = Fault,
        Driver = Adapter?.Driver ?? (Suspects.Length == 0 ? System.FormerDriver(Fault.Device) : null),
        Bridge = System.Remapping?.GroupOf(Fault.Device)?.Bridge,
        SharedBy = System.Remapping?.GroupOf(Fault.Device) is null ? []
            : [.. Suspects.Select(static one => new RequesterSharer(one.Device, one.Driver))],
        Mapping = mapping,
        GoneForNanoseconds = mapping is { State: MappingState.Unmapped } gone
            ? Math.Max(0, Fault.Nanoseconds - gone.UnmappedNanoseconds)
            : null,
        Offset = mapping is { } known ? OffsetIn(known) : null,
        Nearest = Nearest(mapping),
        LikelyCause = cause,
    };

    /// <summary>The byte of the buffer at the address, or the first of it in the page.</summary>
    internal ulong? OffsetIn(in MappingRecord record)
    {
        if (!record.IsContiguous) { return null; }
        LogicalRange buffer = LogicalRange.FromLength(record.First, record.Length);
        if (!buffer.Overlaps(Where)) { return null; }
        return Where.First <= record.First ? 0 : Where.First - record.First;
    }

    private NearMapping? Nearest(MappingRecord? except)
    {
        NearMapping? best = null;
        foreach (MappingRecord record in Own)
        {
            if (!record.IsLive || record.Number == except?.Number || record.Reach.Overlaps(Where)) { continue; }
            bool above = record.First > Where.First;
            ulong distance = above ? record.First - Where.First : Where.First - record.First - record.Length;
            if (distance <= NearBytes && (best is not { } nearest || distance < nearest.Distance))
            {
                best = new(record, distance, above);
            }
        }
        return best;
    }
}
