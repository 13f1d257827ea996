using System.Text.Json;

namespace Sluice.Cli.Tests;

/// <summary>
/// Nine kinds of bad DMA: blocked, logged, harmless and rightly explained; and honestly not so without a unit.
/// </summary>
public sealed class RogueTests
{
    internal static readonly Dictionary<string, string> Kinds = new(StringComparer.Ordinal)
    {
        ["unmapped-read"] = "never-mapped",
        ["unmapped-write"] = "never-mapped",
        ["write-to-readonly"] = "wrong-direction",
        ["read-from-writeonly"] = "wrong-direction",
        ["overrun"] = "past-the-end",
        ["stale"] = "after-unmap",
        ["kernel"] = "physical-address",
        ["other-device"] = "another-device",
        ["physical"] = "physical-address",
    };

    // Seen failing: the report of the case before; requests told as blocked.
    [Fact]
    public void AllNineAreBlockedLoggedHarmlessAndExplained()
    {
        using TemporaryFile disk = new(100_000);
        Outcome outcome = SluiceProcess.Run("run", "--disk", disk.Path, "--rogue", "all", "--json");
        Assert.Equal("", outcome.Error);
        Assert.Equal(0, outcome.ExitCode);
        JsonElement json = outcome.Json;
        Assert.Equal(disk.Sha256, json.GetProperty("disk").GetProperty("sha256").GetString());
        Assert.Equal(0, json.GetProperty("dma").GetProperty("blocked").GetInt64());
        JsonElement[] cases = [.. json.GetProperty("rogue").EnumerateArray()];
        Assert.Equal(Kinds.Keys, cases.Select(static c => c.GetProperty("case").GetString()!));
        foreach (JsonElement rogue in cases)
        {
            string name = rogue.GetProperty("case").GetString()!;
            Assert.True(rogue.GetProperty("blocked").GetBoolean(), name);
            Assert.True(rogue.GetProperty("logged").GetBoolean(), name);
            Assert.True(rogue.GetProperty("memoryUnchanged").GetBoolean(), name);
            JsonElement report = rogue.GetProperty("report");
            Assert.Equal(Kinds[name], report.GetProperty("kind").GetString());
            Assert.Equal("edu", report.GetProperty("device").GetProperty("driver").GetString());
        }
        Assert.Equal("nvme", Report(cases, "other-device").GetProperty("mapping").GetProperty("owner").GetString());
        foreach (string own in new[] { "write-to-readonly", "read-from-writeonly", "overrun", "stale", "physical" })
        {
            Assert.Equal("edu", Report(cases, own).GetProperty("mapping").GetProperty("owner").GetString());
        }
    }

    // Seen failing: memoryUnchanged always true; blocked always true; exit code always 0.
    [Fact]
    public void WithoutAUnitTheHarmIsShown()
    {
        Outcome outcome = SluiceProcess.Run("run", "--rogue", "all", "--iommu", "none", "--json");
        Assert.Equal(2, outcome.ExitCode);
        foreach (JsonElement rogue in outcome.Json.GetProperty("rogue").EnumerateArray())
        {
            Assert.False(rogue.GetProperty("blocked").GetBoolean());
            Assert.False(rogue.GetProperty("logged").GetBoolean());
            Assert.Equal(JsonValueKind.Null, rogue.GetProperty("report").ValueKind);
            bool reads = rogue.GetProperty("case").GetString() is "unmapped-read" or "read-from-writeonly";
            Assert.Equal(reads, rogue.GetProperty("memoryUnchanged").GetBoolean());
        }
    }

    // Seen failing: an exit of 2 with no word why.
    [Theory]
    [InlineData("shadow", "under the shadow policy the address leads to a copy")]
    [InlineData("strict", null)]
    public void StatusTwoSaysWhy(string policy, string? reason)
    {
        using TemporaryFile disk = new(1);
        string[] words = ["run", "--disk", disk.Path, "--rogue", "all", "--policy", policy];
        Outcome json = SluiceProcess.Run([.. words, "--json"]);
        Assert.Equal(reason is null ? 0 : 2, json.ExitCode);
        string?[] reasons =
        [
            .. json.Json.GetProperty("rogue").EnumerateArray().Select(static r => r.GetProperty("reason").GetString())
                .Where(static r => r is not null),
        ];
        Assert.Equal(reason is null ? 0 : 1, reasons.Length);
        Assert.StartsWith(reason ?? "", reasons.SingleOrDefault() ?? "", StringComparison.Ordinal);
        if (reason is null) { return; }
        Assert.Contains($"  why: {reason}", SluiceProcess.Run(words).Output, StringComparison.Ordinal);
    }

    // Seen failing: MEMORY CHANGED, and nothing of what had changed; "1 of 1 cases were", "1 bytes".
    [Fact]
    public void TheHarmIsShownByteByByte()
    {
        using TemporaryFile disk = new(1);
        string[] words = ["run", "--disk", disk.Path, "--iommu", "none", "--rogue"];
        JsonElement json = SluiceProcess.Run([.. words, "physical,read-from-writeonly", "--json"]).Json.GetProperty("rogue");
        Assert.Equal("no remapping unit stands between the device and memory", json[0].GetProperty("reason").GetString());
        Assert.Equal(JsonValueKind.Null, json[0].GetProperty("changed").ValueKind);
        // What the device reads is the buffer's secret, which a seed makes.
        byte[] secret = new byte[16];
        new Random(7).NextBytes(secret);
        Assert.Equal(Convert.ToHexStringLower(secret), json[0].GetProperty("taken").GetString());
        JsonElement changed = json[1].GetProperty("changed");
        Assert.Equal(JsonValueKind.Null, json[1].GetProperty("taken").ValueKind);
        Assert.InRange(changed.GetProperty("bytes").GetInt32(), 1000, 1024);
        Assert.Equal(Convert.ToHexStringLower(secret), changed.GetProperty("before").GetString());
        Assert.NotEqual(Convert.ToHexStringLower(secret), changed.GetProperty("after").GetString());
        string text = SluiceProcess.Run([.. words, "physical"]).Output;
        Assert.Contains("MEMORY CHANGED", text, StringComparison.Ordinal);
        Assert.Contains("    before " + string.Join(' ', secret.Select(static b => $"{b:x2}")), text, StringComparison.Ordinal);
        Assert.Contains("0 of 1 case was blocked", text, StringComparison.Ordinal);
        Assert.Contains(", 1 byte\n", text, StringComparison.Ordinal);
    }

    // Seen failing: the order that was asked for.
    [Fact]
    public void SomeCasesRunAloneAndInOrder()
    {
        Outcome outcome = SluiceProcess.Run("run", "--rogue", "stale,overrun,stale", "--json");
        Assert.Equal(0, outcome.ExitCode);
        Assert.Equal(
            ["overrun", "stale"],
            outcome.Json.GetProperty("rogue").EnumerateArray().Select(static c => c.GetProperty("case").GetString()!));
    }

    // A flush may come in between, when this thread is held up for longer than the window is open.
    // Seen failing: memoryUnchanged always true; blocked always true; exit code always 0.
    [Fact]
    public void DeferredShowsItsWindow()
    {
        for (int attempt = 0; attempt < 5; attempt++)
        {
            Outcome outcome = SluiceProcess.Run("run", "--rogue", "stale", "--policy", "deferred", "--json");
            bool blocked = outcome.Json.GetProperty("rogue")[0].GetProperty("blocked").GetBoolean();
            Assert.Equal(blocked ? 0 : 2, outcome.ExitCode);
            if (!blocked) { return; }
        }
        Assert.Fail("a buffer was never once reachable right after a deferred unmap");
    }

    private static JsonElement Report(JsonElement[] cases, string name) =>
        cases.Single(c => c.GetProperty("case").GetString() == name).GetProperty("report");
}
