namespace Sluice.Remapping;

/// <summary>
/// Functions whose DMA a remapping unit cannot tell apart: a bridge to conventional PCI puts its own requester id, or
/// that of device 0 on the bus behind it, on what comes from behind. They share a domain, because they reach it anyway.
/// </summary>
/// <remarks>
/// PCI Express to PCI/PCI-X Bridge 2.3. Functions of one device, and functions that may talk
/// to each other without passing the unit (no ACS), keep ids and domains of their own: a shared domain would not stop
/// what never reaches the unit.
/// </remarks>
/// <param name="Bridge">The bridge nearest to the root that replaces requester ids.</param>
/// <param name="FirstBus">The bus behind it.</param>
/// <param name="LastBus">The last bus behind it.</param>
public sealed record AliasGroup(PciAddress Bridge, byte FirstBus, byte LastBus)
{
    /// <summary>The ids that anything behind the bridge may carry: the bridge's own, and device 0 behind it.</summary>
    public IReadOnlyList<PciAddress> SharedRequesters =>
        [Bridge, new(Bridge.Segment, RequesterId.From(FirstBus, 0, 0))];

    /// <summary>Whether an id is one of <see cref="SharedRequesters"/>.</summary>
    public bool IsShared(PciAddress requester) => requester == Bridge
        || requester == new PciAddress(Bridge.Segment, RequesterId.From(FirstBus, 0, 0));

    /// <summary>Whether a function, or an id on the bus, is in it: the bridge, or anything behind it.</summary>
    public bool Contains(PciAddress device) => device == Bridge
        || (device.Segment == Bridge.Segment && device.Requester.Bus >= FirstBus && device.Requester.Bus <= LastBus);

    /// <summary>As <c>behind bridge 0000:00:1e.0</c>.</summary>
    public override string ToString() => $"behind bridge {Bridge}";
}
