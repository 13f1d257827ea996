using System.Text.RegularExpressions;

namespace Sluice.Dma.Tests.Verification;

/// <summary>The table of rules is whole, and the page that people read says the same.</summary>
public sealed partial class RuleTableTests
{
    // The numbers that Windows' page lists; 12, 17, 1A and 1C it leaves out.
    private static readonly string[] Windows =
    [
        "00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "0A", "0B", "0C", "0D", "0E", "0F", "10", "11",
        "13", "14", "15", "16", "18", "19", "1B", "1D", "1E", "1F", "20", "21", "22", "23", "24", "25", "26",
    ];

    [Fact]
    public void EveryRuleIsExplained()
    {
        foreach (VerificationRule rule in Enum.GetValues<VerificationRule>())
        {
            VerificationRuleInfo info = rule.Info();
            Assert.Equal(rule, info.Rule);
            Assert.Equal($"{(byte)rule:X2}", info.Code);
            Assert.NotEmpty(info.Means);
            Assert.NotEmpty(info.Remedy);
            Assert.False(info.Means.EndsWith('.') || info.Remedy.EndsWith('.'));
        }
        Assert.Equal(Enum.GetValues<VerificationRule>().Length, VerificationRules.All.Count);
        Assert.Throws<ArgumentOutOfRangeException>(() => ((VerificationRule)0x12).Info());
    }

    [Fact]
    public void EveryNumberOfWindowsAndOfDmaDebugHasItsRule()
    {
        Assert.Equal(Windows, VerificationRules.All.Select(static r => r.Windows).OfType<string>());
        Assert.All(VerificationRules.All, static r => Assert.True(r.Windows is null || r.Windows == r.Code));
        int[] checks = [.. VerificationRules.All.Select(static r => r.DmaDebug).OfType<string>().Select(int.Parse)
            .Distinct().Order()];
        Assert.Equal(Enumerable.Range(1, 23), checks);
    }

    [Fact]
    public void ThePageHasTheTable()
    {
        string page = File.ReadAllText(CheckoutFolder.At("docs", "verification.md"));
        string[] rows = [.. page.Split('\n').Where(static line => Row().IsMatch(line))];
        string[] expected = [.. VerificationRules.All.Select(static r =>
            $"| {r.Code} | `{r.Name}` | {r.DmaDebug} | {r.Means} | {r.Remedy} |")];
        for (int i = 0; i < Math.Max(rows.Length, expected.Length); i++)
        {
            Assert.Equal(expected.ElementAtOrDefault(i), rows.ElementAtOrDefault(i));
        }
    }

    [GeneratedRegex("^\\| [0-9A-F]{2} \\|")]
    private static partial Regex Row();
}
