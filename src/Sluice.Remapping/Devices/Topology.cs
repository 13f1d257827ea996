using Sluice.Remapping.Units;

namespace Sluice.Remapping;

/// <summary>
/// Which unit is in front of a device, and under which ids it sends. A device has its own requester id, and behind a
/// bridge to conventional PCI the ids that all functions there share. It does not change.
/// </summary>
/// <param name="groups">The functions that share requester ids.</param>
/// <param name="units">The units, in the order of the firmware's tables.</param>
internal sealed class Topology(IReadOnlyList<AliasGroup> groups, IUnitDriver[] units)
{
    /// <summary>The functions that share requester ids with a device; null when it has its id for itself.</summary>
    /// <param name="device">The device.</param>
    public AliasGroup? GroupOf(PciAddress device)
    {
        // By index: it is asked for where faults are read, and an enumerator would be made for each.
        for (int i = 0; i < groups.Count; i++)
        {
            if (groups[i].Contains(device)) { return groups[i]; }
        }
        return null;
    }

    /// <summary>Whether two devices share requester ids.</summary>
    /// <param name="one">The one.</param>
    /// <param name="other">The other.</param>
    public bool SharesGroup(PciAddress one, PciAddress other) => GroupOf(one)?.Contains(other) ?? false;

    /// <summary>The ids that a device may send under.</summary>
    /// <param name="device">The device.</param>
    public PciAddress[] RequestersOf(PciAddress device) =>
        GroupOf(device) is { } group ? [.. group.SharedRequesters.Prepend(device).Distinct()] : [device];

    /// <summary>The unit in front of a device; null when there is none.</summary>
    /// <param name="device">The device.</param>
    public IUnitDriver? FindUnit(PciAddress device)
    {
        PciAddress sender = SenderOf(device);
        return Array.Find(units, unit => unit.Description.Names(sender))
            ?? Array.Find(units, unit => unit.Description.TakesRest(sender));
    }

    /// <summary>The unit in front of a device.</summary>
    /// <param name="device">The device.</param>
    /// <exception cref="RemappingException">There is none.</exception>
    public IUnitDriver UnitOf(PciAddress device) => FindUnit(device)
        ?? throw new RemappingException($"no remapping unit serves {SenderOf(device)}");

    /// <summary>
    /// The units in front of some devices; without any device, or any unit in front of one, that of the devices which
    /// firmware does not name.
    /// </summary>
    /// <param name="devices">The devices.</param>
    /// <returns>At least one.</returns>
    public IUnitDriver[] UnitsFor(IReadOnlyList<PciAddress> devices)
    {
        IUnitDriver[] found = [.. devices.Select(FindUnit).OfType<IUnitDriver>().Distinct()];
        return found.Length != 0
            ? found
            : [Array.Find(units, static unit => unit.Description.TakesRest(default(PciAddress))) ?? units[0]];
    }

    // What is behind a bridge that replaces requester ids is its unit's business.
    private PciAddress SenderOf(PciAddress device) => GroupOf(device)?.Bridge ?? device;
}
