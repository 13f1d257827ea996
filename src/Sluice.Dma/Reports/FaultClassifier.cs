namespace Sluice.Dma;

/// <summary>
/// Decides what a refused DMA was: the first rule that recognises it wins. Facts the hardware states come first, then
/// the device's own mappings, then ever weaker resemblances.
/// </summary>
/// <remarks>
/// Records are read some time after the DMA, so mappings may have come and gone in between. A rule therefore claims
/// only what holds whichever happened first, and names a cause only where nothing else would explain the same
/// records. It runs where records are read: it allocates nothing and asks nobody for names. It looks at the mappings
/// near the address, and at a bounded number of others where the address alone does not tell
/// (<see cref="FaultScene.MostLooks"/>).
/// </remarks>
internal sealed class FaultClassifier(DmaSystem system)
{
    private const int PageLog2 = 12;
    private const ulong PageSize = 1 << PageLog2;

    // So many pages of a buffer are searched in the time of a look at a record.
    private const ulong PagesPerLook = 8;

    // An end this short before is taken for the end of the very request the device was working on.
    private const long RecentNanoseconds = 10_000_000;

    private delegate bool Rule(FaultScene scene, ref FaultFinding finding);

    private static readonly Rule[] Rules =
    [
        NotAttached,            // the unit says: no entry for the requester
        ReservedWindow,         // never handed out, whatever the history says
        NotAboutMappings,       // damaged tables, request types: the history cannot judge
        AddressZero,            // never handed out either
        InsideOwnMapping,       // wrong direction, or after it was put
        BesideOwnMapping,       // past the end, or before the start
        OwnBufferByPhysical,    // exactly the frame of a buffer this device has mapped now
        AnotherDevicesMapping,  // live over there, not made since, and its right would have allowed this
        PoisonPattern,          // twenty bits or more that repeat one byte
        AnyPhysicalPage,        // some page of memory
        NothingThere,
    ];

    private readonly FaultScene _scene = new(system);

    /// <summary>
    /// Finds out what a fault was. Always answers, and never throws for what the records hold. One call at a time.
    /// </summary>
    internal void Examine(in DmaFault fault, out FaultFinding finding)
    {
        finding = new() { Fault = fault, Kind = DmaReportKind.Unclassified };
        try
        {
            _scene.Begin(fault);
            finding.Adapters = _scene.Adapters;
            finding.Driver = _scene.Suspects.Count switch
            {
                0 => system.FormerDriver(fault.Device),
                1 => _scene.Suspects[0].Driver,
                _ => null,
            };
            foreach (Rule rule in Rules)
            {
                if (rule(_scene, ref finding)) { break; }
            }
            if (finding.Nearest is null) { finding.Nearest = _scene.NearestBut(finding.Mapping); }
        }
        finally { _scene.End(); }
    }

    private static bool Is(
        ref FaultFinding finding, DmaReportKind kind, MappingRecord? mapping = null,
        LikelyCause cause = LikelyCause.None)
    {
        (finding.Kind, finding.Mapping, finding.Cause) = (kind, mapping, cause);
        return true;
    }

    private static bool NotAttached(FaultScene scene, ref FaultFinding finding)
    {
        if (scene.Fault.Cause != FaultCause.NotAttached) { return false; }
        return Is(ref finding, DmaReportKind.NotAttached,
            cause: scene.Suspects.Count == 0 && finding.Driver is not null
                ? LikelyCause.AdapterDisposed : LikelyCause.None);
    }

    private static bool ReservedWindow(FaultScene scene, ref FaultFinding finding)
    {
        LogicalRange? interrupts = scene.System.Platform.InterruptWindow;
        if (scene.Fault.Cause == FaultCause.InterruptWindow || interrupts is { } one && one.Overlaps(scene.Where))
        {
            finding.Window = interrupts;
            return Is(ref finding, DmaReportKind.ReservedWindow);
        }
        IReadOnlyList<LogicalRange> windows = scene.System.Platform.BusWindows;
        for (int i = 0; i < windows.Count; i++)
        {
            if (!windows[i].Overlaps(scene.Where)) { continue; }
            // Bus windows are wide: a byte pattern inside one is still the better answer.
            if (PoisonPattern(scene, ref finding)) { return true; }
            finding.Window = windows[i];
            return Is(ref finding, DmaReportKind.ReservedWindow);
        }
        return false;
    }

    private static bool NotAboutMappings(FaultScene scene, ref FaultFinding finding) =>
        scene.Fault.Cause is not (FaultCause.AccessDenied or FaultCause.AddressTooWide)
            && Is(ref finding, DmaReportKind.Unclassified);

    private static bool AddressZero(FaultScene scene, ref FaultFinding finding) => scene.Where.First.Value < PageSize
        && Is(ref finding, DmaReportKind.AddressZero, cause: LikelyCause.NeverFilledIn);

    private static bool InsideOwnMapping(FaultScene scene, ref FaultFinding finding)
    {
        MappingRecord? live = scene.Live, ended = scene.Ended;
        bool liveAllows = live is { } now && scene.Allows(now);
        bool liveRefuses = live is not null && !liveAllows;
        MappingRecord? against = liveRefuses ? live : scene.Against;
        if (ended is not { } past)
        {
            if (against is { } refusing)
            {
                finding.Later = liveAllows ? live : null;
                return Is(ref finding, DmaReportKind.WrongDirection, refusing, LikelyCause.WrongDirection);
            }
            // Live and allowed, yet refused: it was mapped after the DMA, which was meant for who was there before.
            return live is not null && Is(ref finding, DmaReportKind.Unclassified, live);
        }
        // Who came later explains the DMA only where the end of who was there before does not.
        bool justEnded = scene.EndedJustBefore(past, RecentNanoseconds);
        bool againstIsLater = against is { } refuses && (liveRefuses || refuses.IsLaterThan(past));
        if (against is { } other && againstIsLater && !justEnded)
        {
            finding.Later = liveAllows ? live : null;
            return Is(ref finding, DmaReportKind.WrongDirection, other);
        }
        finding.Later = live;
        bool onlyAnswer = against is not { } rival || (!againstIsLater && !IsOrWasJustLive(scene, rival));
        return Is(ref finding, DmaReportKind.AfterUnmap, past,
            !justEnded ? LikelyCause.None : onlyAnswer ? LikelyCause.EndedTooEarly : LikelyCause.EndedOrWrongDirection);
    }

    private static bool BesideOwnMapping(FaultScene scene, ref FaultFinding finding)
    {
        MappingRecord? ahead = scene.Ahead;
        if (scene.Behind is { } passed)
        {
            bool onlyAnswer = IsOrWasJustLive(scene, passed) && !(ahead is { } next && IsOrWasJustLive(scene, next));
            return Is(ref finding, DmaReportKind.PastTheEnd, passed,
                onlyAnswer ? LikelyCause.ToldOfMore : LikelyCause.None);
        }
        return ahead is { } missed && Is(ref finding, DmaReportKind.BeforeTheStart, missed);
    }

    // What ended since the DMA may have happened was live for it, however late somebody looks.
    private static bool IsOrWasJustLive(FaultScene scene, in MappingRecord record) =>
        record.IsLive || scene.EndedJustBefore(record, 0);

    private static bool OwnBufferByPhysical(FaultScene scene, ref FaultFinding finding)
    {
        if (!IsBuffer(scene)) { return false; }
        foreach (DmaAdapter mate in scene.Mates)
        {
            if (FindBuffer(scene, mate) is not { } found) { continue; }
            finding.Physical = found;
            return Is(ref finding, DmaReportKind.PhysicalAddress, cause: LikelyCause.PhysicalAddress);
        }
        return false;
    }

    private static bool AnotherDevicesMapping(FaultScene scene, ref FaultFinding finding)
    {
        ulong page = scene.Where.First.Value >> PageLog2;
        Span<int> near = stackalloc int[16];
        foreach (DmaAdapter adapter in scene.Adapters)
        {
            if (scene.Mates.Contains(adapter)) { continue; }
            int from = 0;
            for (int count = near.Length; count == near.Length;)
            {
                count = adapter.Table.Index.Find(ref from, page, margin: 1, goneToo: false, near);
                ReadOnlySpan<Mapping> all = adapter.Table.All;
                foreach (int i in near[..count])
                {
                    if (i < all.Length && all[i].TryCapture(out MappingRecord record) && record.IsLive
                        && record.Reach.Overlaps(scene.Where) && scene.Allows(record))
                    {
                        if (scene.MayBeOlderThan(record, adapter))
                        {
                            finding.Later = record;
                            continue;
                        }
                        finding.Later = null;
                        return Is(ref finding, DmaReportKind.AnotherDevice, record);
                    }
                }
            }
        }
        return false;
    }

    private static bool PoisonPattern(FaultScene scene, ref FaultFinding finding)
    {
        if (!TryPoison(scene.Where, out byte pattern)) { return false; }
        // All ones is also what a missing device answers, and minus one.
        bool onlyAnswer = pattern != 0xFF;
        return Is(ref finding, DmaReportKind.PoisonPattern,
            cause: onlyAnswer ? LikelyCause.PoisonedMemory : LikelyCause.None);
    }

    private static bool AnyPhysicalPage(FaultScene scene, ref FaultFinding finding)
    {
        FrameKind kind = scene.System.Platform.Frames.KindOf(PageOf(scene));
        if (kind == FrameKind.Absent) { return false; }
        if (IsBuffer(scene))
        {
            foreach (DmaAdapter adapter in scene.Adapters)
            {
                // Those in the domain came first.
                if (scene.Mates.Contains(adapter) || FindBuffer(scene, adapter) is not { } found) { continue; }
                finding.Physical = found;
                return Is(ref finding, DmaReportKind.PhysicalAddress);
            }
        }
        // Logical and physical numbers overlap: near the device's own mappings, memory nobody uses is a coincidence.
        if (kind is FrameKind.Free or FrameKind.AwaitsFlush or FrameKind.Buffer && scene.NearestBut(null) is not null)
        {
            return false;
        }
        finding.Physical = new(kind, null, null, 0);
        return Is(ref finding, DmaReportKind.PhysicalAddress);
    }

    private static bool NothingThere(FaultScene scene, ref FaultFinding finding) =>
        Is(ref finding, DmaReportKind.NeverMapped);

    private static PhysicalAddress PageOf(FaultScene scene) =>
        new PhysicalAddress(scene.Where.First.Value).AlignDown(PageLog2);

    // Anything else is in no driver's list, and the search below is spared.
    private static bool IsBuffer(FaultScene scene) =>
        scene.System.Platform.Frames.KindOf(PageOf(scene)) is FrameKind.Buffer or FrameKind.Quarantined;

    // Null also where that takes more looks than there are left: a buffer that is too large for them is passed over.
    private static PhysicalFinding? FindBuffer(FaultScene scene, DmaAdapter adapter)
    {
        foreach (Mapping mapping in adapter.Table.All)
        {
            if (!scene.TryLook(1)) { return null; }
            if (mapping.Phase is not (MappingPhase.Live or MappingPhase.Leaked)
                || !mapping.TryPeek(out MappingPeek peek) || !scene.TryLook(LooksAt(peek)))
            {
                continue;
            }
            if (mapping.TryLocate(PageOf(scene), out MappingRecord record, out ulong offset))
            {
                return new(scene.System.Platform.Frames.KindOf(PageOf(scene)), null, record, offset);
            }
        }
        return null;
    }

    // A list of small parts has more pages than its bytes fill.
    private static int LooksAt(in MappingPeek peek)
    {
        ulong pages = Math.Max(peek.Length >> PageLog2, (ulong)peek.Mapping.Backend.MapRegisters);
        return (int)Math.Min(pages / PagesPerLook, int.MaxValue);
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
}
