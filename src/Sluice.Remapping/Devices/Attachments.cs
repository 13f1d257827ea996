using Sluice.Remapping.Units;

namespace Sluice.Remapping;

/// <summary>
/// Who is in which domain. The requester ids that functions share belong to whichever domain their group is in. One
/// caller at a time.
/// </summary>
/// <param name="topology">Which unit is in front of a device, and under which ids it sends.</param>
/// <param name="regions">What firmware says that a device must reach.</param>
internal sealed class Attachments(Topology topology, FirmwareRegions regions)
{
    // The devices that were attached by name, and what each requester id is let into.
    private readonly Dictionary<PciAddress, Domain> _attached = [];
    private readonly Dictionary<PciAddress, (Domain Domain, IUnitDriver Unit)> _entries = [];

    /// <inheritdoc cref="RemappingSystem.Attach"/>
    public void Attach(Domain domain, PciAddress device)
    {
        IUnitDriver unit = Prepare(domain, device);
        foreach ((PciAddress member, Domain theirs) in _attached)
        {
            if (member == device || theirs == domain || !topology.SharesGroup(member, device)) { continue; }
            throw new RemappingException(
                $"{device} shares requester ids with {member} ({topology.GroupOf(device)}), which is attached to "
                + $"{theirs}: attach it there, or detach {member} first");
        }
        domain.Join(unit);
        Domain? old = _attached.GetValueOrDefault(device);
        try
        {
            foreach (PciAddress requester in topology.RequestersOf(device)) { Publish(domain, unit, requester); }
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

    /// <inheritdoc cref="RemappingSystem.Switch"/>
    public bool Switch(PciAddress device, Domain domain)
    {
        IUnitDriver unit = Prepare(domain, device);
        if (!_attached.TryGetValue(device, out Domain? old))
        {
            throw new RemappingException($"{device} is attached to no domain that it could leave: attach it");
        }
        if (old == domain) { return true; }
        PciAddress[] members =
            [.. _attached.Keys.Where(other => other == device || topology.SharesGroup(other, device))];
        PciAddress[] requesters = [.. members.SelectMany(topology.RequestersOf).Distinct()];
        foreach (PciAddress requester in requesters) { unit.ThrowIfQuarantined(requester); }
        foreach (PciAddress member in members) { regions.Map(domain, member); }
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

    /// <inheritdoc cref="RemappingSystem.Detach"/>
    public bool Detach(PciAddress device)
    {
        IUnitDriver? unit = topology.FindUnit(device);
        bool attached = _attached.Remove(device, out Domain? old);
        if (attached) { Withdraw(device); }
        // One that dies from here on has confirmed.
        bool isDead = unit is { IsDead: true };
        if (attached) { LeaveIfUnused(old!, unit!); }
        return !isDead;
    }

    /// <summary>Detaches everything that is in a domain.</summary>
    /// <param name="domain">The domain.</param>
    public void Empty(Domain domain)
    {
        foreach (PciAddress device in _attached.Keys.Where(key => _attached[key] == domain).ToArray())
        {
            Detach(device);
        }
        // And ids that nobody attached by name is in it with: those of a group, which a dead unit left here.
        foreach (PciAddress requester in _entries.Keys.Where(key => _entries[key].Domain == domain).ToArray())
        {
            IUnitDriver unit = _entries[requester].Unit;
            _entries.Remove(requester);
            unit.Detach(requester);
            LeaveIfUnused(domain, unit);
        }
    }

    /// <inheritdoc cref="RemappingSystem.DomainOf"/>
    public Domain? DomainOf(PciAddress device) =>
        _attached.GetValueOrDefault(device)
        ?? topology.RequestersOf(device).Select(id => _entries.GetValueOrDefault(id).Domain).FirstOrDefault(
            static domain => domain is not null);

    /// <inheritdoc cref="RemappingSystem.EndQuarantine"/>
    public void EndQuarantine(PciAddress device)
    {
        foreach (PciAddress requester in topology.RequestersOf(device))
        {
            IUnitDriver unit = topology.UnitOf(device);
            if (unit.EndQuarantine(requester) && _entries.TryGetValue(requester, out var entry))
            {
                unit.Attach(requester, entry.Domain.Space);
            }
        }
    }

    private IUnitDriver Prepare(Domain domain, PciAddress device)
    {
        IUnitDriver unit = topology.UnitOf(device);
        if (domain.IsDead || unit.IsDead)
        {
            throw new RemappingException($"{unit} no longer answers: {device} stays blocked");
        }
        if (!domain.Shape.IsWalkedBy(unit.Traits))
        {
            throw new RemappingException(
                $"{unit}, in front of {device}, cannot walk the tables of {domain}: make a domain for the device");
        }
        regions.Map(domain, device);
        return unit;
    }

    private void Publish(Domain domain, IUnitDriver unit, PciAddress requester)
    {
        if (_entries.GetValueOrDefault(requester).Domain == domain) { return; }
        _entries[requester] = (domain, unit);
        unit.Attach(requester, domain.Space);
    }

    // Takes away the entries of a device that no attached one needs.
    private void Withdraw(PciAddress device)
    {
        HashSet<PciAddress> needed = [
            .. _attached.Keys.Where(other => topology.SharesGroup(other, device)).SelectMany(topology.RequestersOf)];
        foreach (PciAddress requester in topology.RequestersOf(device))
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
}
