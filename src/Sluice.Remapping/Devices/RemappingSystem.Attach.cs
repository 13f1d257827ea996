using Sluice.Formats.PageTables;
using Sluice.Remapping.Units;

namespace Sluice.Remapping;

// Who is in which domain. A device has its own requester id, and behind a bridge to conventional PCI the ids that all
// functions there share: those belong to whichever domain the group is in.
public sealed partial class RemappingSystem
{
    // 16 GiB: real machines ask for a little more than 1 GiB for a graphics device, and each page is looked at.
    private const ulong MaximumRegionPages = 1 << 22;

    // The devices that were attached by name, and what each requester id is let into. Under the control lock.
    private readonly Dictionary<PciAddress, Domain> _attached = [];
    private readonly Dictionary<PciAddress, (Domain Domain, IUnitDriver Unit)> _entries = [];

    /// <summary>
    /// Lets a device reach what is mapped in <paramref name="domain"/>. If it was attached elsewhere it is blocked in
    /// between, never in both. Regions that firmware demands for it are mapped first. Functions that share its
    /// requester id (<see cref="GroupOf"/>) reach the domain with it.
    /// </summary>
    /// <exception cref="RemappingException">
    /// No unit serves the device, a function that shares its requester id is attached to another domain, a firmware
    /// region for it lies where no device may reach, no memory is left for a table, the device is in quarantine, or a
    /// unit is dead. The device is as it was, or blocked and attached to nothing.
    /// </exception>
    public void Attach(Domain domain, PciAddress device)
    {
        ArgumentNullException.ThrowIfNull(domain);
        lock (_control)
        {
            IUnitDriver unit = Prepare(domain, device);
            foreach ((PciAddress member, Domain theirs) in _attached)
            {
                if (member == device || theirs == domain || !SharesGroup(member, device)) { continue; }
                throw new RemappingException(
                    $"{device} shares requester ids with {member} ({GroupOf(device)}), which is attached to {theirs}: "
                    + $"attach it there, or detach {member} first");
            }
            domain.Join(unit);
            Domain? old = _attached.GetValueOrDefault(device);
            try
            {
                foreach (PciAddress requester in RequestersOf(device)) { Publish(domain, unit, requester); }
                _attached[device] = domain;
            }
            catch
            {
                _attached.Remove(device);
                Withdraw(device);
                LeaveIfUnused(domain, unit);
                throw;
            }
            finally
            {
                if (old is not null) { LeaveIfUnused(old, unit); }
            }
        }
    }

    /// <summary>
    /// Moves an attached device, and every function that shares its requester id, to <paramref name="domain"/> while
    /// it does DMA: each of its requests goes by the old domain as a whole or by the new one, none is refused in
    /// between, and when this returns nothing goes by the old one or is in flight through it.
    /// </summary>
    /// <remarks>
    /// A request is what the bus calls one: it does not cross a page. A longer transfer is several, and goes over at
    /// one of its page boundaries. Of a group with several requester ids, each goes over by itself.
    /// </remarks>
    /// <returns>
    /// False when the device was blocked for a moment in between: the processor cannot store the unit's 16-byte entry
    /// at once. The other promises hold as well then.
    /// </returns>
    /// <exception cref="RemappingException">
    /// The device is attached to nothing, it or another of its group is in quarantine, or a firmware region for it lies
    /// where no device may reach: all are as they were. Or a unit is dead: all of them are blocked.
    /// </exception>
    public bool Switch(PciAddress device, Domain domain)
    {
        ArgumentNullException.ThrowIfNull(domain);
        lock (_control)
        {
            IUnitDriver unit = Prepare(domain, device);
            if (!_attached.TryGetValue(device, out Domain? old))
            {
                throw new RemappingException($"{device} is attached to no domain that it could leave: attach it");
            }
            if (old == domain) { return true; }
            PciAddress[] members = [.. _attached.Keys.Where(other => other == device || SharesGroup(other, device))];
            PciAddress[] requesters = [.. members.SelectMany(RequestersOf).Distinct()];
            foreach (PciAddress requester in requesters) { unit.ThrowIfQuarantined(requester); }
            foreach (PciAddress member in members) { MapRegions(domain, member); }
            domain.Join(unit);
            bool atomic = true;
            int tried = 0;
            try
            {
                foreach (PciAddress requester in requesters)
                {
                    tried++;
                    atomic &= unit.Switch(requester, domain.Space);
                    _entries[requester] = (domain, unit);
                }
            }
            catch
            {
                // One may have gone into quarantine since. A dead unit has blocked all, and both domains are dead.
                if (!unit.IsDead) { SwitchBack(unit, requesters.AsSpan(0, tried), old); }
                LeaveIfUnused(domain, unit);
                LeaveIfUnused(old, unit);
                throw;
            }
            foreach (PciAddress member in members) { _attached[member] = domain; }
            LeaveIfUnused(old, unit);
            return atomic;
        }
    }

    /// <summary>
    /// Blocks a device: when this returns true it reaches nothing, and nothing of it is in flight. It need not be
    /// attached. While another function that shares its requester id is attached, what the device sends under that id
    /// is still taken for the other's.
    /// </summary>
    /// <returns>
    /// False when its unit no longer answers. The tables block the device then, but what the unit has cached may still
    /// let it in: the domain that it left is dead, and whatever was mapped there must not be reused.
    /// </returns>
    public bool Detach(PciAddress device)
    {
        lock (_control)
        {
            IUnitDriver? unit = FindUnitOf(device);
            bool attached = _attached.Remove(device, out Domain? old);
            if (attached) { Withdraw(device); }
            // One that dies from here on has confirmed.
            bool isDead = unit is { IsDead: true };
            if (attached) { LeaveIfUnused(old!, unit!); }
            return !isDead;
        }
    }

    /// <summary>
    /// The domain that a device reaches: the one it is attached to, or that of a function that shares its requester id;
    /// null when it is blocked.
    /// </summary>
    public Domain? DomainOf(PciAddress device)
    {
        lock (_control)
        {
            return _attached.GetValueOrDefault(device)
                ?? RequestersOf(device).Select(id => _entries.GetValueOrDefault(id).Domain).FirstOrDefault(
                    static domain => domain is not null);
        }
    }

    /// <summary>
    /// The functions that share requester ids with <paramref name="device"/>; null when it has its id for itself.
    /// </summary>
    public AliasGroup? GroupOf(PciAddress device)
    {
        // By index: it is asked for where faults are read, and an enumerator would be made for each.
        IReadOnlyList<AliasGroup> groups = _firmware.Groups;
        for (int i = 0; i < groups.Count; i++)
        {
            if (groups[i].Contains(device)) { return groups[i]; }
        }
        return null;
    }

    /// <summary>
    /// The requester ids that were blocked because they raised too many faults
    /// (<see cref="RemappingOptions.StormsUntilQuarantine"/>).
    /// </summary>
    public IReadOnlyList<PciAddress> Quarantined =>
        [.. _units.SelectMany(static unit => unit.Quarantined).Select(static source => source.Pci).OfType<PciAddress>()];

    /// <summary>
    /// Lets a device out of quarantine: it reaches the domain that it is still attached to. An attach that the
    /// quarantine refused has detached it: then it stays blocked. Harmless when it is in none.
    /// </summary>
    /// <exception cref="RemappingException">The unit is dead; the device stays blocked.</exception>
    public void EndQuarantine(PciAddress device)
    {
        lock (_control)
        {
            foreach (PciAddress requester in RequestersOf(device))
            {
                IUnitDriver unit = UnitOf(device);
                if (unit.EndQuarantine(requester) && _entries.TryGetValue(requester, out var entry))
                {
                    unit.Attach(requester, entry.Domain.Space);
                }
            }
        }
    }

    /// <summary>
    /// What was wrong in the firmware's tables and is left out, a line each, up to a thousand: the devices that it
    /// concerns are blocked where they need it. Empty for sound firmware.
    /// </summary>
    public IReadOnlyList<string> FirmwareProblems => _firmware.Problems;

    private IUnitDriver Prepare(Domain domain, PciAddress device)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ObjectDisposedException.ThrowIf(!_domains.Contains(domain), domain);
        IUnitDriver unit = UnitOf(device);
        if (domain.IsDead || unit.IsDead)
        {
            throw new RemappingException($"{unit} no longer answers: {device} stays blocked");
        }
        if (!domain.Shape.IsWalkedBy(unit.Traits))
        {
            throw new RemappingException(
                $"{unit}, in front of {device}, cannot walk the tables of {domain}: make a domain for the device");
        }
        MapRegions(domain, device);
        return unit;
    }

    private bool SharesGroup(PciAddress one, PciAddress other) => GroupOf(one)?.Contains(other) ?? false;

    private PciAddress[] RequestersOf(PciAddress device) =>
        GroupOf(device) is { } group ? [.. group.SharedRequesters.Prepend(device).Distinct()] : [device];

    private void Publish(Domain domain, IUnitDriver unit, PciAddress requester)
    {
        if (_entries.GetValueOrDefault(requester).Domain == domain) { return; }
        _entries[requester] = (domain, unit);
        unit.Attach(requester, domain.Space);
    }

    // Takes away the entries of a device that no attached one needs.
    private void Withdraw(PciAddress device)
    {
        HashSet<PciAddress> needed =
            [.. _attached.Keys.Where(other => SharesGroup(other, device)).SelectMany(RequestersOf)];
        foreach (PciAddress requester in RequestersOf(device))
        {
            if (needed.Contains(requester) || !_entries.Remove(requester, out (Domain, IUnitDriver Unit) entry))
            {
                continue;
            }
            entry.Unit.Detach(requester);
        }
    }

    // What cannot go back stays blocked, as in quarantine: it belongs to the old domain, and EndQuarantine lets it in.
    private void SwitchBack(IUnitDriver unit, ReadOnlySpan<PciAddress> requesters, Domain old)
    {
        foreach (PciAddress requester in requesters)
        {
            _entries[requester] = (old, unit);
            try { unit.Switch(requester, old.Space); }
            catch (RemappingException) { unit.Detach(requester); }
        }
    }

    // Also when it is used still, a domain learns here that its unit is dead.
    private void LeaveIfUnused(Domain domain, IUnitDriver unit)
    {
        if (unit.IsDead || !_entries.Values.Contains((domain, unit))) { domain.Leave(unit); }
    }

    private IUnitDriver UnitOf(PciAddress device) => FindUnitOf(device)
        ?? throw new RemappingException($"no remapping unit serves {GroupOf(device)?.Bridge ?? device}");

    // What is behind a bridge that replaces requester ids is its unit's business.
    private IUnitDriver? FindUnitOf(PciAddress device)
    {
        PciAddress sender = GroupOf(device)?.Bridge ?? device;
        return Array.Find(_units, unit => unit.Description.Names(sender))
            ?? Array.Find(_units, unit => unit.Description.TakesRest(sender));
    }

    // Firmware's regions of a device that is to be attached, and of all whose requester ids it shares, are never handed
    // out in its domain: one of those may be attached later. A mate's region that no device may have is not kept.
    private void ReserveRegions(Domain domain, PciAddress device)
    {
        AliasGroup? group = GroupOf(device);
        ulong left = MaximumRegionPages;
        foreach (FirmwareRegion region in _firmware.Regions)
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

    // All regions of the device or none. They stay until the domain goes: another attach finds them mapped.
    private void MapRegions(Domain domain, PciAddress device)
    {
        ReserveRegions(domain, device);
        List<LogicalRange> missing = PageRanges.Missing(
            PageRanges.Merge(_firmware.Regions.Where(region => IsFor(region, device)).Select(static one => one.Range)),
            domain.Regions);
        ulong left = MaximumRegionPages;
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

    private bool IsFor(FirmwareRegion region, PciAddress device) =>
        region.Segment == device.Segment
        && RequestersOf(device).Any(id => region.Devices.Any(scope => scope.Covers(id.Requester)));

    private static bool IsFor(FirmwareRegion region, AliasGroup group) =>
        region.Devices.Any(scope => scope.Touches(group));

    private bool AreFirmwares(LogicalRange range, out PhysicalAddress page, out FrameKind kind)
    {
        ulong pages = PageRanges.Count(range);
        (page, kind) = (default, FrameKind.Absent);
        for (ulong i = 0; i < pages; i++)
        {
            page = new(range.First.Value + (i << PageLog2));
            kind = _platform.Frames.KindOf(page);
            if (kind != FrameKind.Absent) { return false; }
        }
        return true;
    }

    private static RemappingException Refused(LogicalRange region, PciAddress device, string why) =>
        new($"firmware region {region} of {device} {why}");
}
