using System.Globalization;
using System.Text.Json;

namespace Sluice.Dma;

/// <summary>What one rule means, who else knows it, and what to do about it.</summary>
/// <param name="Rule">The rule.</param>
/// <param name="Windows">Its number in Windows' DMA verification, or null.</param>
/// <param name="DmaDebug">The number of the check of Linux's dma-debug, or null. Counted as in docs/verification.md.
/// </param>
/// <param name="Means">What happened, as a sentence without an end.</param>
/// <param name="Remedy">What the driver's author does.</param>
public sealed record VerificationRuleInfo(
    VerificationRule Rule, string? Windows, string? DmaDebug, string Means, string Remedy)
{
    /// <summary>Two hexadecimal digits, as <c>0A</c>.</summary>
    public string Code => ((byte)Rule).ToString("X2", CultureInfo.InvariantCulture);

    /// <summary>In kebab case, as <c>lists-outstanding</c>.</summary>
    public string Name { get; } = JsonNamingPolicy.KebabCaseLower.ConvertName(Rule.ToString());
}

/// <summary>Every rule, documented once: the reports, docs/verification.md and the tests read this table.</summary>
public static partial class VerificationRules
{
    private static readonly VerificationRuleInfo?[] ByCode = Index(Table());

    /// <summary>The rules, by code.</summary>
    public static IReadOnlyList<VerificationRuleInfo> All { get; } = [.. ByCode.OfType<VerificationRuleInfo>()];

    /// <summary>What <paramref name="rule"/> means.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such rule.</exception>
    public static VerificationRuleInfo Info(this VerificationRule rule) =>
        ByCode[(byte)rule]
            ?? throw new ArgumentOutOfRangeException(nameof(rule), $"there is no rule 0x{(byte)rule:X2}");

    private static VerificationRuleInfo?[] Index(VerificationRuleInfo[] table)
    {
        var rules = new VerificationRuleInfo?[256];
        foreach (VerificationRuleInfo info in table) { rules[(byte)info.Rule] = info; }
        return rules;
    }
}
