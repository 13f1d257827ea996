using Sluice.Formats.PageTables;

namespace Sluice.Remapping;

/// <summary>
/// Memory that firmware says some devices must reach at its physical address: mapped there in whatever domain such a
/// device is attached to. One caller at a time.
/// </summary>
/// <param name="regions">The regions.</param>
/// <param name="topology">Who shares requester ids with whom.</param>
/// <param name="frames">Tells which memory is the firmware's.</param>
internal sealed class FirmwareRegions(
    IReadOnlyList<FirmwareRegion> regions, Topology topology, IFrameAllocator frames)
{
    private const int PageLog2 = 12;

    // 16 GiB: real machines ask for a little more than 1 GiB for a graphics device, and each page is looked at.
    private const ulong MaximumPages = 1 << 22;

    /// <summary>
    /// Keeps the addresses of a device's regions, and of those of all whose requester ids it shares, out of what its
    /// domain hands out: one of those may be attached later. A mate's region that no device may have is not kept.
    /// </summary>
    /// <param name="domain">The domain.</param>
    /// <param name="device">A device that will be attached.</param>
    public void Reserve(Domain domain, PciAddress device)
    {
        AliasGroup? group = topology.GroupOf(device);
        ulong left = MaximumPages;
        foreach (FirmwareRegion region in regions)
        {
            LogicalRange range = PageRanges.Of(region.Range);
            if (region.Segment != device.Segment || !(group is null ? IsFor(region, device) : IsFor(region, group))
                || domain.Reserved.Contains(range) || range.Last > domain.Last || PageRanges.Count(range) > left
                || !AreFirmwares(range, out _, out _))
            {
                continue;
            }
            left -= PageRanges.Count(range);
            if (domain.Addresses.TryReserve(range)) { domain.Reserved.Add(range); }
        }
    }

    /// <summary>
    /// Maps all regions of a device, or none. They stay until the domain goes: another attach finds them mapped.
    /// </summary>
    /// <param name="domain">The domain.</param>
    /// <param name="device">A device that is about to be attached.</param>
    /// <exception cref="RemappingException">One lies where no device may reach.</exception>
    public void Map(Domain domain, PciAddress device)
    {
        Reserve(domain, device);
        List<LogicalRange> missing = PageRanges.Missing(
            PageRanges.Merge(regions.Where(region => IsFor(region, device)).Select(static one => one.Range)),
            domain.Regions);
        ulong left = MaximumPages;
        foreach (LogicalRange range in missing)
        {
            if (PageRanges.Count(range) > left) { throw Refused(range, device, "is too large to check"); }
            left -= PageRanges.Count(range);
            // Only what the firmware keeps for itself: a frame that is free today may hold page tables tomorrow.
            if (!AreFirmwares(range, out PhysicalAddress page, out FrameKind kind))
            {
                throw Refused(range, device, $"overlaps {kind} memory at {page}");
            }
            if (range.Last > domain.Last || !domain.Addresses.TryReserve(range))
            {
                throw Refused(range, device, $"is in use in, or beyond, {domain}");
            }
        }
        for (int i = 0; i < missing.Count; i++)
        {
            PageTableChange change = domain.Tables.MapRun(
                missing[i], new(missing[i].First.Value), DmaAccess.ReadWrite);
            if (!change.IsDone)
            {
                domain.TakeBack(missing[i].First, change.Bytes);
                foreach (LogicalRange range in missing[..i]) { domain.TakeBack(range.First, range.Length); }
                throw Refused(missing[i], device, $"cannot be mapped: {change.Status}");
            }
        }
        domain.Regions.AddRange(missing);
        foreach (LogicalRange range in missing) { domain.Announce(range); }
    }

    private static bool IsFor(FirmwareRegion region, AliasGroup group) =>
        region.Devices.Any(scope => scope.Touches(group));

    private static RemappingException Refused(LogicalRange region, PciAddress device, string why) =>
        new($"firmware region {region} of {device} {why}");

    private bool IsFor(FirmwareRegion region, PciAddress device) =>
        region.Segment == device.Segment
        && topology.RequestersOf(device).Any(id => region.Devices.Any(scope => scope.Covers(id.Requester)));

    private bool AreFirmwares(LogicalRange range, out PhysicalAddress page, out FrameKind kind)
    {
        ulong pages = PageRanges.Count(range);
        (page, kind) = (default, FrameKind.Absent);
        for (ulong i = 0; i < pages; i++)
        {
            page = new(range.First.Value + (i << PageLog2));
            kind = frames.KindOf(page);
            if (kind != FrameKind.Absent) { return false; }
        }
        return true;
    }
}
