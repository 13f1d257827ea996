namespace Sluice.Remapping.Vtd;

/// <summary>
/// The functions that a device scope of the DMAR table means: one function, or all buses behind a bridge.
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

/// <summary>One remapping unit as firmware describes it.</summary>
/// <param name="Registers">Where its registers are.</param>
/// <param name="Segment">The PCI segment it serves.</param>
/// <param name="IncludesAll">Whether it serves everything in the segment that no other unit names.</param>
/// <param name="Devices">What it serves by name.</param>
internal sealed record VtdUnitDescription(
    PhysicalAddress Registers, ushort Segment, bool IncludesAll, IReadOnlyList<ScopeMatch> Devices);

/// <summary>Memory that firmware says some devices must reach at its physical address (RMRR).</summary>
/// <param name="Range">
/// As firmware says it: perhaps parts of pages, perhaps overlapping others of the same device.
/// </param>
/// <param name="Segment">The devices' segment.</param>
/// <param name="Devices">The devices.</param>
internal sealed record FirmwareRegion(PhysicalRange Range, ushort Segment, IReadOnlyList<ScopeMatch> Devices);

/// <summary>What the firmware tables say about remapping.</summary>
/// <param name="HostAddressBits">Physical address bits of the machine.</param>
/// <param name="Units">The units, in the table's order.</param>
/// <param name="Regions">The regions.</param>
internal sealed record FirmwareDescription(
    int HostAddressBits, IReadOnlyList<VtdUnitDescription> Units, IReadOnlyList<FirmwareRegion> Regions)
{
    /// <summary>Functions that share requester ids, as the bridges were numbered at the start.</summary>
    public IReadOnlyList<AliasGroup> Groups { get; init; } = [];

    /// <summary>What is wrong in the tables and was left out, a line each.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];
}
