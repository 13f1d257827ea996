namespace Sluice.Dma;

/// <summary>
/// Decides what a refused DMA was: the first rule that recognises it wins. Facts the hardware states come first, then
/// the device's own mappings, then ever weaker resemblances.
/// </summary>
/// <remarks>
/// Records are read some time after the DMA, so mappings may have come and gone in between. A rule therefore claims
/// only what holds whichever happened first, and names a cause only where nothing else would explain the same
/// records.
/// </remarks>
internal sealed class FaultClassifier(DmaSystem system, IPhysicalRegionNames? names)
{
    private const int PageLog2 = 12;
    private const ulong PageSize = 1 << PageLog2;

    // An end this short ago is taken for the end of the very request the device was working on.
    private const long RecentNanoseconds = 10_000_000;

    private delegate DmaReport? Rule(FaultScene scene);

    private static readonly Rule[] Rules =
    [
        NotAttached,            // the unit says: no entry for the requester
        ReservedWindow,         // never handed out, whatever the history says
        NotAboutMappings,       // damaged tables, request types: the history cannot judge
        AddressZero,            // never handed out either
        InsideOwnMapping,       // wrong direction, or after it was put
        BesideOwnMapping,       // past the end, or before the start
        OwnBufferByPhysical,    // exactly the frame of a buffer this device has mapped now
        AnotherDevicesMapping,  // live over there, and its right would have allowed this
        PoisonPattern,          // twenty bits or more that repeat one byte
        AnyPhysicalPage,        // some page of memory
        NothingThere,
    ];

    /// <summary>Explains a fault. Always answers, and never throws for what the records hold.</summary>
    internal DmaReport Explain(in DmaFault fault)
    {
        FaultScene scene = new(system, fault, names);
        foreach (Rule rule in Rules)
        {
            if (rule(scene) is { } report) { return report; }
        }
        return scene.Report(DmaReportKind.Unclassified);
    }

    private static DmaReport? NotAttached(FaultScene scene)
    {
        if (scene.Fault.Cause != FaultCause.NotAttached) { return null; }
        bool hadDriver = scene.Suspects.Length == 0 && scene.System.FormerDriver(scene.Fault.Device) is not null;
        string? cause = hadDriver ? "the driver disposed its adapter while the device still worked" : null;
        return scene.Report(DmaReportKind.NotAttached, cause: cause);
    }

    private static DmaReport? ReservedWindow(FaultScene scene)
    {
        if (scene.Fault.Cause == FaultCause.InterruptWindow || MsiMessage.Window.Overlaps(scene.Where))
        {
            return scene.Report(DmaReportKind.ReservedWindow) with { Window = $"interrupt window {MsiMessage.Window}" };
        }
        foreach (LogicalRange window in scene.System.Platform.BusWindows)
        {
            if (!window.Overlaps(scene.Where)) { continue; }
            // Bus windows are wide: a byte pattern inside one is still the better answer.
            return PoisonPattern(scene)
                ?? scene.Report(DmaReportKind.ReservedWindow) with { Window = $"bus window {window}" };
        }
        return null;
    }

    private static DmaReport? NotAboutMappings(FaultScene scene) =>
        scene.Fault.Cause is FaultCause.AccessDenied or FaultCause.AddressTooWide ? null
            : scene.Report(DmaReportKind.Unclassified);

    private static DmaReport? AddressZero(FaultScene scene) => scene.Where.First.Value >= PageSize
        ? null
        : scene.Report(DmaReportKind.AddressZero, cause: "an address the device works with was never filled in");

    private static DmaReport? InsideOwnMapping(FaultScene scene)
    {
        MappingRecord? live = null, gone = null;
        foreach (MappingRecord record in scene.Own)
        {
            if (!record.Reach.Overlaps(scene.Where)) { continue; }
            if (record.IsLive) { live = record; }
            else if (gone is not { } other || IsLater(record, other)) { gone = record; }
        }
        if (live is { } now && !scene.Allows(now))
        {
            // If an earlier owner of the page would have been allowed to, the device may have meant that one.
            bool onlyAnswer = gone is not { } before || !scene.Allows(before);
            return scene.Report(DmaReportKind.WrongDirection, now, onlyAnswer ? Disagreement(now) : null);
        }
        if (gone is { } past)
        {
            // Against its right it was refused whether it came before or after the end: the direction is the sure part.
            if (!scene.Allows(past)) { return scene.Report(DmaReportKind.WrongDirection, past, Disagreement(past)); }
            DmaReport report = scene.Report(DmaReportKind.AfterUnmap, past);
            bool recent = past.State == MappingState.Closing || report.GoneForNanoseconds <= RecentNanoseconds;
            return report with { LikelyCause = recent ? EndedTooEarly(past) : null };
        }
        // Live and allowed, yet refused: it was mapped after the DMA. Nothing remembers what was there before.
        return live is { } later ? scene.Report(DmaReportKind.Unclassified, later) : null;
    }

    private static DmaReport? BesideOwnMapping(FaultScene scene)
    {
        MappingRecord? behind = null, ahead = null;
        foreach (MappingRecord record in scene.Own)
        {
            if (IsBehind(record, scene.Where.First) && IsBetter(record, behind)) { behind = record; }
            if (record.Reach.First > scene.Where.Last && record.Reach.First - scene.Where.First <= PageSize
                && IsBetter(record, ahead))
            {
                ahead = record;
            }
        }
        if (behind is { } passed)
        {
            bool onlyAnswer = passed.IsLive && ahead is not { IsLive: true };
            string? cause = onlyAnswer ? "the device was told of more bytes than were mapped" : null;
            return scene.Report(DmaReportKind.PastTheEnd, passed, cause);
        }
        return ahead is { } missed ? scene.Report(DmaReportKind.BeforeTheStart, missed) : null;
    }

    private static DmaReport? OwnBufferByPhysical(FaultScene scene)
    {
        const string Cause =
            "the device was given the buffer's physical address, not the one in its scatter/gather list";
        foreach (DmaAdapter mate in scene.Mates)
        {
            if (FindBuffer(scene, mate) is not { } found) { continue; }
            return scene.Report(DmaReportKind.PhysicalAddress, cause: Cause) with { Physical = found };
        }
        return null;
    }

    private static DmaReport? AnotherDevicesMapping(FaultScene scene)
    {
        foreach (DmaAdapter adapter in scene.System.Adapters)
        {
            if (scene.Mates.Contains(adapter)) { continue; }
            foreach (Mapping mapping in adapter.Table.All)
            {
                if (mapping.TryCapture(out MappingRecord record) && record.IsLive
                    && record.Reach.Overlaps(scene.Where) && scene.Allows(record))
                {
                    return scene.Report(DmaReportKind.AnotherDevice, record);
                }
            }
        }
        return null;
    }

    private static DmaReport? PoisonPattern(FaultScene scene)
    {
        if (!TryPoison(scene.Where, out byte pattern)) { return null; }
        // All ones is also what a missing device answers, and minus one.
        bool onlyAnswer = pattern != 0xFF;
        return scene.Report(
            DmaReportKind.PoisonPattern,
            cause: onlyAnswer ? "the device read its address from memory that was freed or never written" : null);
    }

    private static DmaReport? AnyPhysicalPage(FaultScene scene)
    {
        PhysicalAddress page = new PhysicalAddress(scene.Where.First.Value).AlignDown(PageLog2);
        FrameKind kind = scene.System.Platform.Frames.KindOf(page);
        if (kind == FrameKind.Absent) { return null; }
        foreach (DmaAdapter adapter in scene.System.Adapters)
        {
            if (FindBuffer(scene, adapter) is not { } found) { continue; }
            return scene.Report(DmaReportKind.PhysicalAddress) with { Physical = found };
        }
        PhysicalFinding memory = new(kind, scene.Names?.NameOf(page), null, 0);
        DmaReport report = scene.Report(DmaReportKind.PhysicalAddress) with { Physical = memory };
        // Logical and physical numbers overlap: near the device's own mappings, memory nobody uses is a coincidence.
        bool coincidence = kind is FrameKind.Free or FrameKind.Buffer && report.Nearest is not null;
        return coincidence ? null : report;
    }

    private static DmaReport NothingThere(FaultScene scene) => scene.Report(DmaReportKind.NeverMapped);

    private static PhysicalFinding? FindBuffer(FaultScene scene, DmaAdapter adapter)
    {
        PhysicalAddress page = new PhysicalAddress(scene.Where.First.Value).AlignDown(PageLog2);
        foreach (Mapping mapping in adapter.Table.All)
        {
            if (mapping.TryLocate(page, out MappingRecord record, out ulong offset))
            {
                return new(scene.System.Platform.Frames.KindOf(page), null, record, offset);
            }
        }
        return null;
    }

    /// <summary>Whether every bit the record has repeats one byte other than zero, over 32 or 64 bits.</summary>
    internal static bool TryPoison(LogicalRange where, out byte pattern)
    {
        ulong address = where.First.Value;
        ulong known = ~(where.Last - where.First);
        pattern = (byte)(address >> 24);
        ulong word = 0x0101_0101UL * pattern;
        bool narrow = address <= uint.MaxValue && (word & known & uint.MaxValue) == address;
        ulong wide = (word << 32) | word;
        return pattern != 0 && (narrow || (wide & known) == address);
    }

    private static bool IsBehind(in MappingRecord record, LogicalAddress address)
    {
        LogicalAddress next = record.Reach.Last + 1;
        return address > record.Reach.Last && (address <= record.GuardLast || address - next < PageSize);
    }

    // Live before gone, then the later one.
    private static bool IsBetter(in MappingRecord record, in MappingRecord? than) =>
        than is not { } other || (record.IsLive != other.IsLive ? record.IsLive : record.Number > other.Number);

    private static bool IsLater(in MappingRecord record, in MappingRecord than) =>
        than.State != MappingState.Closing
        && (record.State == MappingState.Closing || record.UnmappedNanoseconds >= than.UnmappedNanoseconds);

    private static string Disagreement(in MappingRecord record) => record.IsCommonBuffer
        ? "the access the common buffer was made for and what the device was told to do do not agree"
        : $"the list was got for {record.Direction}, and the device was told to transfer the other way";

    private static string EndedTooEarly(in MappingRecord record) => record.IsCommonBuffer
        ? "the driver freed the common buffer while the device still used it"
        : "the driver completed the request while the device still worked on it";
}
