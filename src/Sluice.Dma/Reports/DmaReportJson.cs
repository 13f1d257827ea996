using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sluice.Dma;

/// <summary>
/// The report as scripts read it: a contract, documented in docs/dma-reports.md. Absent facts are absent members.
/// </summary>
internal sealed record ReportDocument(
    string Kind, string Headline, DeviceDocument Device, string Access, string Address, long Granularity,
    HardwareDocument Hardware, MappingDocument? Mapping, MappingDocument? LaterMapping, NearestDocument? Nearest,
    PhysicalDocument? Physical, string? Window, string? LikelyCause)
{
    internal static ReportDocument From(DmaReport report) => new(
        report.Kind.ToName(),
        DmaReportText.Headline(report),
        new(
            report.Fault.Device.ToString(), report.Driver, report.Bridge?.ToString(),
            report.Bridge is null ? null
                : [.. report.SharedBy.Select(static one => new SharerDocument(one.Device.ToString(), one.Driver))]),
        report.Fault.Access switch { DmaAccess.Read => "read", DmaAccess.Write => "write", _ => "read-write" },
        report.Fault.Address.ToString(),
        1L << report.Fault.GranularityLog2,
        new(report.Fault.HardwareReason, report.Fault.Reason),
        // Whoever reads "mapping" wants to know whose memory it is about, by whichever address it was found.
        report.Mapping is { } mapping ? MappingDocument.From(mapping, report.GoneForNanoseconds, report.Offset)
            : report.Physical is { Mapping: { } held } by ? MappingDocument.From(held, null, by.Offset) : null,
        report.LaterMapping is { } later ? MappingDocument.From(later, null, null) : null,
        report.Nearest is { } near ? NearestDocument.From(near) : null,
        report.Physical is { } found
            ? new(JsonNamingPolicy.KebabCaseLower.ConvertName(found.Frame.ToString()), found.Name)
            : null,
        report.Window,
        report.LikelyCause);
}

internal sealed record DeviceDocument(string Address, string? Driver, string? Bridge, SharerDocument[]? SharedBy);

internal sealed record SharerDocument(string Address, string Driver);

internal sealed record HardwareDocument(int Code, string Text);

internal sealed record MappingDocument(
    long Number, string Owner, string Device, string Site, uint Tag, string First, ulong Length, string Direction,
    string State, bool CommonBuffer, string? UnmappedSite, long? GoneForNs, ulong? Offset)
{
    internal static MappingDocument From(in MappingRecord mapping, long? gone, ulong? offset) => new(
        mapping.Number, mapping.Owner, mapping.Device.ToString(), mapping.MapSite.ToString(), mapping.Tag,
        mapping.First.ToString(),
        mapping.Length, DirectionName(mapping.Direction),
        JsonNamingPolicy.KebabCaseLower.ConvertName(mapping.State.ToString()),
        mapping.IsCommonBuffer, mapping.State == MappingState.Unmapped ? mapping.UnmapSite.ToString()
            : null, gone, offset);

    internal static string DirectionName(DmaDirection direction) =>
        JsonNamingPolicy.KebabCaseLower.ConvertName(direction.ToString());
}

internal sealed record NearestDocument(long Number, string First, ulong Length, string Direction, ulong Distance,
    string Side)
{
    internal static NearestDocument From(in NearMapping near) => new(
        near.Mapping.Number, near.Mapping.First.ToString(), near.Mapping.Length,
        MappingDocument.DirectionName(near.Mapping.Direction),
        near.Distance, near.Above ? "above" : "below");
}

internal sealed record PhysicalDocument(string Frame, string? Name);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(ReportDocument))]
internal sealed partial class ReportJsonContext : JsonSerializerContext;

/// <summary>The kinds' names in JSON.</summary>
public static class DmaReportKinds
{
    private static readonly string[] Names =
        [.. Enum.GetValues<DmaReportKind>().Select(kind =>
            JsonNamingPolicy.KebabCaseLower.ConvertName(kind.ToString()))];

    /// <summary>In kebab case, as <c>after-unmap</c>.</summary>
    public static string ToName(this DmaReportKind kind) => Names[(int)kind];
}

public sealed partial record DmaReport
{
    /// <summary>The first line: what happened, without the device.</summary>
    public string Headline => DmaReportText.Headline(this);

    /// <summary>The whole report in words, several lines, ending with a line feed.</summary>
    public override string ToString() => DmaReportText.Format(this);

    /// <summary>The whole report as one line of JSON.</summary>
    public string ToJson() =>
        JsonSerializer.Serialize(ReportDocument.From(this), ReportJsonContext.Default.ReportDocument);

    /// <summary>The whole report as a JSON object inside another document.</summary>
    public void WriteTo(Utf8JsonWriter writer) =>
        JsonSerializer.Serialize(writer, ReportDocument.From(this), ReportJsonContext.Default.ReportDocument);
}
