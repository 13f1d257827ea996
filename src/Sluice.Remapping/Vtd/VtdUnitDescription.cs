using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>One VT-d unit as the DMAR table describes it.</summary>
/// <param name="Registers">Where its registers are.</param>
/// <param name="Segment">The PCI segment it serves.</param>
/// <param name="IncludesAll">Whether it serves everything in the segment that no other unit names.</param>
/// <param name="Devices">What it serves by name.</param>
internal sealed record VtdUnitDescription(
    PhysicalAddress Registers, ushort Segment, bool IncludesAll, IReadOnlyList<ScopeMatch> Devices) : UnitDescription
{
    /// <inheritdoc/>
    public override bool Names(SourceId source) =>
        source.Pci is { } device && device.Segment == Segment
        && Devices.Any(scope => scope.Covers(device.Requester));

    /// <inheritdoc/>
    public override bool TakesRest(SourceId source) =>
        IncludesAll && source.Pci is { } device && device.Segment == Segment;

    /// <inheritdoc/>
    public override IUnitDriver CreateDriver(UnitHost host) => new VtdUnitDriver(host, this);

    /// <summary>The unit in one line.</summary>
    public override string ToString() => $"VT-d unit at {Registers}";
}
