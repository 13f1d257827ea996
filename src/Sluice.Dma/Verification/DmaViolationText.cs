using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Sluice.Dma;

/// <summary>A violation in words, as people read it. Not a contract: scripts take the JSON.</summary>
internal static class DmaViolationText
{
    internal static string Format(DmaViolation violation)
    {
        VerificationRuleInfo rule = violation.Rule.Info();
        StringBuilder text = new();
        text.Append("DMA rule ").Append(rule.Code).Append(" broken: ").Append(rule.Means).Append('\n').Append("  ");
        if (violation.Driver is { } driver)
        {
            text.Append(CultureInfo.InvariantCulture, $"{driver} {violation.Device}: ");
        }
        text.Append(violation.Line).Append('\n');
        if (violation.Mapping is { } mapping) { AppendMapping(text, "", mapping, violation.AgeNanoseconds); }
        if (violation.Other is { } other) { AppendMapping(text, "other ", other, null); }
        if (violation.Site.Member is { Length: > 0 })
        {
            text.Append("  noticed in ").Append(violation.Site.ToString()).Append('\n');
        }
        if (violation.LikelyCause is { } cause) { text.Append("  likely cause: ").Append(cause).Append('\n'); }
        text.Append("  what to do: ").Append(rule.Remedy).Append('\n');
        return text.ToString();
    }

    private static void AppendMapping(StringBuilder text, string which, in MappingRecord mapping, long? age)
    {
        string what = mapping.IsCommonBuffer ? "common buffer" : "mapping";
        text.Append(CultureInfo.InvariantCulture,
            $"  {which}{what} #{mapping.Number} [{mapping.First}, {mapping.Length} bytes, {mapping.Direction}]");
        if (age is { } nanoseconds) { text.Append(", lived ").Append(DmaReportText.Duration(nanoseconds)); }
        text.Append('\n');
        DmaReportText.AppendSites(text, mapping);
    }
}

/// <summary>
/// The violation as scripts read it: a contract, documented in docs/verification.md. Absent facts are absent members.
/// </summary>
internal sealed record ViolationDocument(
    string Kind, string Code, string Rule, int? SubCode, string Headline, string Line, DeviceDocument? Device,
    string? Site, MappingDocument? Mapping, long? AgeNs, MappingDocument? Other, string? LikelyCause, string Remedy,
    ReportDocument? Blocked)
{
    internal static ViolationDocument From(DmaViolation violation)
    {
        VerificationRuleInfo rule = violation.Rule.Info();
        return new(
            "violation", rule.Code, rule.Name, violation.SubCode == 0 ? null : violation.SubCode, rule.Means,
            violation.Line,
            violation.Device is { } device ? new(device.ToString(), violation.Driver, null, null) : null,
            violation.Site.Member is { Length: > 0 } ? violation.Site.ToString() : null,
            violation.Mapping is { } mapping ? MappingDocument.From(mapping, null, null) : null,
            violation.AgeNanoseconds,
            violation.Other is { } other ? MappingDocument.From(other, null, null) : null,
            violation.LikelyCause, rule.Remedy,
            violation.Blocked is { } blocked ? ReportDocument.From(blocked) : null);
    }
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(ViolationDocument))]
internal sealed partial class ViolationJsonContext : JsonSerializerContext;

public sealed partial record DmaViolation
{
    /// <summary>The whole violation in words, several lines, ending with a line feed.</summary>
    public override string ToString() => DmaViolationText.Format(this);

    /// <summary>The whole violation as one line of JSON.</summary>
    public string ToJson() =>
        JsonSerializer.Serialize(ViolationDocument.From(this), ViolationJsonContext.Default.ViolationDocument);

    /// <summary>The whole violation as a JSON object inside another document.</summary>
    public void WriteTo(Utf8JsonWriter writer) =>
        JsonSerializer.Serialize(writer, ViolationDocument.From(this), ViolationJsonContext.Default.ViolationDocument);
}
