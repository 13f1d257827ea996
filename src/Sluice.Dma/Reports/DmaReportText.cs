using System.Globalization;
using System.Text;

namespace Sluice.Dma;

/// <summary>A report in words, as people read it. Not a contract: scripts take the JSON.</summary>
internal static class DmaReportText
{
    private const int ReasonColumn = 60;
    private const int SiteColumn = 30;

    /// <summary>The first line without <c>DMA blocked: </c>.</summary>
    internal static string Headline(DmaReport report)
    {
        string verb = report.Fault.Access switch
        {
            DmaAccess.Read => "read",
            DmaAccess.Write => "write",
            _ => "read and write",
        };
        return verb + report.Kind switch
        {
            DmaReportKind.AddressZero => " at address zero",
            DmaReportKind.PastTheEnd => " past the end of a mapping",
            DmaReportKind.BeforeTheStart => " before the start of a mapping",
            DmaReportKind.AfterUnmap when report.Mapping is { IsCommonBuffer: true } =>
                " after the common buffer was freed",
            DmaReportKind.AfterUnmap => " after PutScatterGatherList",
            DmaReportKind.WrongDirection => $" in a mapping that is {report.Mapping?.Direction} only",
            DmaReportKind.AnotherDevice => " in another device's mapping",
            DmaReportKind.PhysicalAddress => " at a physical address",
            DmaReportKind.PoisonPattern => " at a poison pattern",
            DmaReportKind.ReservedWindow => " in a reserved window",
            DmaReportKind.NotAttached => " by a device that is not attached",
            DmaReportKind.Unclassified => " for a reason outside the mappings",
            _ => " where nothing is mapped",
        };
    }

    internal static string Format(DmaReport report)
    {
        StringBuilder text = new();
        text.Append("DMA blocked: ").Append(Headline(report)).Append('\n');
        string who = $"  {report.Driver ?? "device"} {report.Fault.Device} {Did(report)} {report.Fault.Address}";
        text.Append(who.PadRight(ReasonColumn)).Append(report.Fault.Reason).Append('\n');
        if (report.Bridge is { } bridge)
        {
            text.Append(CultureInfo.InvariantCulture, $"  {report.Fault.Device} stands for all behind bridge {bridge}: ")
                .AppendJoin(", ", report.SharedBy.Select(static one => $"{one.Driver} {one.Device}"))
                .Append(report.SharedBy.Count == 0 ? "no function with a driver\n" : "\n");
        }
        if (Finding(report) is { } finding) { text.Append("  ").Append(finding).Append('\n'); }
        if ((report.Mapping ?? report.Physical?.Mapping) is { } mapping) { AppendSites(text, mapping); }
        if (report.LaterMapping is { } later)
        {
            text.Append(CultureInfo.InvariantCulture, $"  mapped there since: #{later.Number} [{later.First}, ")
                .Append(CultureInfo.InvariantCulture, $"{later.Length} bytes, {later.Direction}] by driver ")
                .Append(later.Owner).Append('\n');
        }
        if (report.Nearest is { } near)
        {
            string distance = near.Distance == 0 ? "directly" : $"{near.Distance} bytes";
            text.Append(CultureInfo.InvariantCulture,
                $"  nearest live mapping: #{near.Mapping.Number} [{near.Mapping.First}, ")
                .Append(CultureInfo.InvariantCulture, $"{near.Mapping.Length} bytes, {near.Mapping.Direction}] ")
                .Append(distance).Append(near.Above ? " above\n" : " below\n");
        }
        if (report.LikelyCause is { } cause) { text.Append("  likely cause: ").Append(cause).Append('\n'); }
        return text.ToString();
    }

    private static string Did(DmaReport report) => (report.Fault.Access, report.Fault.GranularityLog2) switch
    {
        (DmaAccess.Read, 0) => "read at",
        (DmaAccess.Read, _) => "read in the page at",
        (DmaAccess.Write, 0) => "wrote at",
        (DmaAccess.Write, _) => "wrote in the page at",
        (_, 0) => "read and wrote at",
        _ => "read and wrote in the page at",
    };

    private static string? Finding(DmaReport report)
    {
        LogicalAddress at = report.Fault.Address;
        return (report.Kind, report.Mapping) switch
        {
            (DmaReportKind.PastTheEnd, { } m) =>
                $"{at} is {Distance(at - m.First - m.Length)} past the end of {Describe(m, report)}",
            (DmaReportKind.BeforeTheStart, { } m) =>
                $"{at} is {Distance(m.First - at)} before the start of {Describe(m, report)}",
            (DmaReportKind.Unclassified, { } m) =>
                $"{at} is {Place(report)} of {Describe(m, report)}: "
                + "it allows this, so it was mapped after the DMA was refused",
            (DmaReportKind.AnotherDevice, { } m) =>
                $"{at} is {Place(report)} of {Describe(m, report)}, of {m.Owner} {m.Device}",
            (_, { } m) => $"{at} is {Place(report)} of {Describe(m, report)}",
            (DmaReportKind.PhysicalAddress, _) => $"{at} is the physical address of {Memory(report)}",
            (DmaReportKind.ReservedWindow, _) =>
                $"{at} is in the {report.Window ?? "interrupt window"}, which is never mapped",
            (DmaReportKind.PoisonPattern, _) => $"{at} repeats the byte 0x{(byte)(at.Value >> 24):X2}",
            _ => null,
        };
    }

    private static string Place(DmaReport report) => (report.Offset, report.Fault.GranularityLog2) switch
    {
        ({ } offset, 0) => $"byte {offset}",
        ({ } offset, _) => $"the page of byte {offset}",
        (_, 0) => "in a page",
        _ => "a page",
    };

    private static string Describe(in MappingRecord mapping, DmaReport report)
    {
        string state = mapping.State switch
        {
            MappingState.Live => "live",
            MappingState.Closing => "being given back",
            MappingState.Leaked => "leaked",
            _ => report.GoneForNanoseconds is { } gone ? Gone(gone, mapping.UnmappedExactly) : "gone",
        };
        string what = mapping.IsCommonBuffer ? "common buffer" : "mapping";
        return $"{what} #{mapping.Number} ({mapping.Length} bytes, {mapping.Direction}), {state}";
    }

    private static string Gone(long nanoseconds, bool exactly) =>
        $"gone for {(exactly ? "" : "at most ")}{Duration(nanoseconds)}";

    private static string Memory(DmaReport report) => report.Physical switch
    {
        { Mapping: { } m, Offset: var offset } =>
            $"the page of byte {offset} of {Describe(m, report)} at {m.First} for {m.Owner} {m.Device}",
        { Name: { } name } => $"the {name}",
        { Frame: FrameKind.Kernel } => "kernel memory",
        { Frame: FrameKind.UnitTable } => "the remapping unit's tables",
        { Frame: FrameKind.Quarantined } => "memory in quarantine",
        { Frame: FrameKind.Buffer } => "a buffer of which no mapping was found",
        { Frame: FrameKind.AwaitsFlush } => "a buffer that was given back and awaits a flush",
        _ => "free memory",
    };

    internal static void AppendSites(StringBuilder text, in MappingRecord mapping)
    {
        text.Append("    mapped   ").Append(mapping.MapSite.ToString().PadRight(SiteColumn));
        text.Append(" by driver ").Append(mapping.Owner);
        if (mapping.Tag != 0) { text.Append(CultureInfo.InvariantCulture, $", request tag {mapping.Tag}"); }
        text.Append('\n');
        if (mapping.State != MappingState.Unmapped) { return; }
        text.Append("    unmapped ").Append(mapping.UnmapSite.ToString()).Append('\n');
    }

    private static string Distance(ulong bytes) => bytes == 0 ? "directly" : $"{bytes} bytes";

    internal static string Duration(long nanoseconds) => nanoseconds switch
    {
        < 1_000 => $"{nanoseconds} ns",
        < 1_000_000 => $"{nanoseconds / 1_000} µs",
        < 1_000_000_000 => $"{nanoseconds / 1_000_000} ms",
        _ => $"{nanoseconds / 1_000_000_000} s",
    };
}
