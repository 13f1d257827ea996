namespace Sluice.Remapping;

/// <summary>Finds the groups behind bridges that replace requester ids, as firmware numbered the buses.</summary>
internal static class AliasGroups
{
    /// <summary>
    /// Goes through every bus at most once and from there only to higher ones, so whatever bridges claim, the search
    /// ends after 65,536 functions of each segment.
    /// </summary>
    /// <param name="bridges">The machine's.</param>
    /// <param name="roots">
    /// Where to begin besides bus 0 of segment 0: large machines have a root bus for every processor, and firmware
    /// names each of them.
    /// </param>
    public static IReadOnlyList<AliasGroup> Find(PciBridges bridges, IEnumerable<(ushort Segment, byte Bus)> roots)
    {
        List<AliasGroup> groups = [];
        HashSet<(ushort Segment, int Bus)> seen = [];
        // Lower buses first: one that turns out to be behind another is not gone through again.
        foreach ((ushort segment, byte bus) in roots.Append(((ushort)0, (byte)0)).Distinct().Order())
        {
            Find(bridges, segment, bus, groups, seen);
        }
        return groups;
    }

    private static void Find(
        PciBridges bridges, ushort segment, byte bus, List<AliasGroup> groups,
        HashSet<(ushort Segment, int Bus)> seen)
    {
        if (!seen.Add((segment, bus))) { return; }
        foreach (PciAddress function in bridges.FunctionsOn(segment, bus))
        {
            if (!bridges.TryGetBuses(function, out byte first, out byte last)) { continue; }
            if (!bridges.ReplacesRequesters(function))
            {
                Find(bridges, segment, first, groups, seen);
                continue;
            }
            groups.Add(new(function, first, last));
            for (int inside = first; inside <= last; inside++) { seen.Add((segment, inside)); }
        }
    }
}
