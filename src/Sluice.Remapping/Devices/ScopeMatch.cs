namespace Sluice.Remapping;

/// <summary>
/// The PCI functions that an entry of a firmware table means: one function, or all buses behind a bridge.
/// </summary>
/// <param name="Function">The function, or the bridge.</param>
/// <param name="FirstBus">The first bus behind it; above <paramref name="LastBus"/> for a function.</param>
/// <param name="LastBus">The last bus behind it.</param>
internal readonly record struct ScopeMatch(RequesterId Function, int FirstBus = 1, int LastBus = 0)
{
    /// <summary>Whether <paramref name="device"/> is meant.</summary>
    public bool Covers(RequesterId device) => device == Function || (device.Bus >= FirstBus && device.Bus <= LastBus);

    /// <summary>Whether anything of <paramref name="group"/>, in the same segment, is meant.</summary>
    public bool Touches(AliasGroup group) => Covers(group.Bridge.Requester)
        || group.Contains(new(group.Bridge.Segment, Function))
        || (FirstBus <= group.LastBus && LastBus >= group.FirstBus);
}
