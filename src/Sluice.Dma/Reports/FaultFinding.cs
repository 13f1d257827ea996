using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>What probably went wrong; the words are found when the report is written.</summary>
internal enum LikelyCause : byte
{
    None,
    NeverFilledIn,
    WrongDirection,
    EndedTooEarly,
    EndedOrWrongDirection,
    ToldOfMore,
    PhysicalAddress,
    PoisonedMemory,
    AdapterDisposed,
}

/// <summary>
/// What one refused DMA was, as the history told when its record was read: of fixed size, and complete, so that nothing
/// that is mapped or given back afterwards changes the report that is written from it.
/// </summary>
internal struct FaultFinding
{
    internal DmaFault Fault;
    internal DmaReportKind Kind;
    internal LikelyCause Cause;
    internal MappingRecord? Mapping;
    internal MappingRecord? Later;
    internal NearMapping? Nearest;
    internal PhysicalFinding? Physical;
    internal LogicalRange? Window;

    /// <summary>The device's driver; the last one it had where it has none now.</summary>
    internal string? Driver;

    /// <summary>The adapters there were: an array that never changes.</summary>
    internal DmaAdapter[]? Adapters;

    /// <summary>
    /// The report, with the words that a finding has no room for. Outside every lock: names are asked for.
    /// </summary>
    internal readonly DmaReport ToReport(DmaSystem system, IPhysicalRegionNames? names)
    {
        AliasGroup? group = system.Remapping?.GroupOf(Fault.Device);
        PhysicalFinding? physical = Physical;
        if (physical is { Mapping: null } page)
        {
            PhysicalAddress at = new PhysicalAddress(Fault.Address.Value).AlignDown(12);
            physical = page with { Name = names?.NameOf(at) };
        }
        return new()
        {
            Kind = Kind,
            Fault = Fault,
            Driver = Driver,
            Bridge = group?.Bridge,
            SharedBy = group is null ? [] : SharersOf(system),
            Mapping = Mapping,
            LaterMapping = Later,
            GoneForNanoseconds = GoneFor(),
            Offset = Mapping is { } known ? FaultScene.OffsetIn(known, FaultScene.RangeOf(Fault)) : null,
            Nearest = Nearest,
            Physical = physical,
            Window = Window is not { } window ? null
                : window == system.Platform.InterruptWindow ? $"interrupt window {window}" : $"bus window {window}",
            LikelyCause = Words(),
        };
    }

    // The mapping may have ended after its record was read and before it was looked at: then no time passed that could
    // be told.
    private readonly long? GoneFor() =>
        Mapping is { State: MappingState.Unmapped } gone && Fault.Nanoseconds >= gone.UnmappedNanoseconds
            ? Fault.Nanoseconds - gone.UnmappedNanoseconds : null;

    private readonly List<RequesterSharer> SharersOf(DmaSystem system)
    {
        List<DmaAdapter> suspects = [];
        system.FindAdaptersBehind(Fault.Device, Adapters ?? [], suspects);
        return suspects.ConvertAll(static one => new RequesterSharer(one.Device, one.Driver));
    }

    private readonly string? Words() => (Cause, Mapping) switch
    {
        (LikelyCause.NeverFilledIn, _) => "an address the device works with was never filled in",
        (LikelyCause.WrongDirection, { IsCommonBuffer: true }) =>
            "the access the common buffer was made for and what the device was told to do do not agree",
        (LikelyCause.WrongDirection, { Direction: var direction }) =>
            $"the list was got for {direction}, and the device was told to transfer the other way",
        (LikelyCause.EndedTooEarly, { IsCommonBuffer: true }) =>
            "the driver freed the common buffer while the device still used it",
        (LikelyCause.EndedTooEarly, _) => "the driver completed the request while the device still worked on it",
        (LikelyCause.EndedOrWrongDirection, _) =>
            "the memory was given back while the device still worked on it; less likely, the device used what lay at "
            + "the same address for the other direction",
        (LikelyCause.ToldOfMore, _) => "the device was told of more bytes than were mapped",
        (LikelyCause.PhysicalAddress, _) =>
            "the device was given the buffer's physical address, not the one in its scatter/gather list",
        (LikelyCause.PoisonedMemory, _) => "the device read its address from memory that was freed or never written",
        (LikelyCause.AdapterDisposed, _) => "the driver disposed its adapter while the device still worked",
        _ => null,
    };
}
