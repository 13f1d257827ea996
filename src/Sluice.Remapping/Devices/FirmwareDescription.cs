using Sluice.Remapping.Units;

namespace Sluice.Remapping;

/// <summary>Memory that firmware says some devices must reach at its physical address.</summary>
/// <param name="Range">
/// As firmware says it: perhaps parts of pages, perhaps overlapping others of the same device.
/// </param>
/// <param name="Segment">The devices' segment.</param>
/// <param name="Devices">The devices.</param>
internal sealed record FirmwareRegion(PhysicalRange Range, ushort Segment, IReadOnlyList<ScopeMatch> Devices);

/// <summary>What the firmware says about remapping.</summary>
/// <param name="HostAddressBits">Physical address bits of the machine.</param>
/// <param name="Units">The units, in the order of the firmware's tables.</param>
/// <param name="Regions">The regions.</param>
internal sealed record FirmwareDescription(
    int HostAddressBits, IReadOnlyList<UnitDescription> Units, IReadOnlyList<FirmwareRegion> Regions)
{
    /// <summary>Functions that share requester ids, as the bridges were numbered at the start.</summary>
    public IReadOnlyList<AliasGroup> Groups { get; init; } = [];

    /// <summary>What is wrong in the tables and was left out, a line each.</summary>
    public IReadOnlyList<string> Problems { get; init; } = [];

    /// <summary>What both say, this one first.</summary>
    /// <param name="other">Another kind of table of the same machine.</param>
    public FirmwareDescription With(FirmwareDescription other) => new(
        Math.Min(HostAddressBits, other.HostAddressBits), [.. Units, .. other.Units], [.. Regions, .. other.Regions])
    {
        Groups = [.. Groups.Union(other.Groups)],
        Problems = [.. Problems, .. other.Problems],
    };
}
