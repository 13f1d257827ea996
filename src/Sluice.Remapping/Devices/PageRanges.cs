namespace Sluice.Remapping;

/// <summary>
/// Firmware regions as pages: rounded out, since less than a page cannot be kept free or mapped, and each page once,
/// since firmware's regions overlap, nest, and touch.
/// </summary>
internal static class PageRanges
{
    private const ulong InPage = 0xFFF;

    /// <summary>The pages that a region touches, where they are mapped: at their own addresses.</summary>
    public static LogicalRange Of(PhysicalRange region) =>
        new(new(region.First.Value & ~InPage), new(region.Last.Value | InPage));

    /// <summary>All pages of some regions, as few ranges as possible, in order.</summary>
    public static List<LogicalRange> Merge(IEnumerable<PhysicalRange> regions)
    {
        List<LogicalRange> merged = [];
        foreach (LogicalRange range in regions.Select(Of).OrderBy(static range => range.First.Value))
        {
            if (merged.Count == 0 || (range.First.Value != 0 && range.First.Value - 1 > merged[^1].Last.Value))
            {
                merged.Add(range);
            }
            else if (range.Last > merged[^1].Last) { merged[^1] = new(merged[^1].First, range.Last); }
        }
        return merged;
    }

    /// <summary>What of <paramref name="ranges"/> is not in <paramref name="present"/>; all of whole pages.</summary>
    public static List<LogicalRange> Missing(IEnumerable<LogicalRange> ranges, IEnumerable<LogicalRange> present)
    {
        List<LogicalRange> missing = [.. ranges];
        foreach (LogicalRange hole in present)
        {
            List<LogicalRange> rest = [];
            foreach (LogicalRange range in missing)
            {
                if (!hole.Overlaps(range))
                {
                    rest.Add(range);
                    continue;
                }
                if (range.First < hole.First) { rest.Add(new(range.First, new(hole.First.Value - 1))); }
                if (range.Last > hole.Last) { rest.Add(new(new(hole.Last.Value + 1), range.Last)); }
            }
            missing = rest;
        }
        return missing;
    }

    /// <summary>How many pages a range has: at most 2^52.</summary>
    public static ulong Count(LogicalRange range) => ((range.Last.Value - range.First.Value) >> 12) + 1;
}
