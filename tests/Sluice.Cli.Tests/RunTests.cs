using System.Text.Json;
using Sluice.Cli.Run;

namespace Sluice.Cli.Tests;

/// <summary><c>sluice run</c> reads what is on the disk, whatever stands between.</summary>
public sealed class RunTests
{
    public static TheoryData<long, string, string> Combinations
    {
        get
        {
            TheoryData<long, string, string> data = [];
            foreach (long bytes in new long[] { 1, 511, 512, 4095, (1 << 20) + 1, 5 << 20 })
            {
                data.Add(bytes, "none", "strict");
                foreach (string policy in new[] { "strict", "deferred", "shadow" }) { data.Add(bytes, "vtd", policy); }
            }
            return data;
        }
    }

    // Seen failing: the whole chunk hashed, not what was read; no IOTLB counts; with shadow, bouncedBytes always 0.
    [Theory]
    [MemberData(nameof(Combinations))]
    public void TheHashIsTheFiles(long bytes, string iommu, string policy)
    {
        using TemporaryFile disk = new(bytes);
        Outcome outcome = SluiceProcess.Run("run", "--disk", disk.Path, "--iommu", iommu, "--policy", policy, "--json");
        Assert.Equal("", outcome.Error);
        Assert.Equal(0, outcome.ExitCode);
        JsonElement json = outcome.Json;
        Assert.Equal(1, json.GetProperty("version").GetInt32());
        Assert.Equal("sim", json.GetProperty("machine").GetString());
        Assert.Equal(iommu, json.GetProperty("iommu").GetString());
        Assert.Equal(policy, json.GetProperty("policy").GetString());
        Assert.Equal(disk.Path, json.GetProperty("disk").GetProperty("path").GetString());
        Assert.Equal(bytes, json.GetProperty("disk").GetProperty("bytes").GetInt64());
        Assert.Equal(disk.Sha256, json.GetProperty("disk").GetProperty("sha256").GetString());
        JsonElement dma = json.GetProperty("dma");
        Assert.True(dma.GetProperty("requests").GetInt64() > 0);
        Assert.True(dma.GetProperty("bytes").GetInt64() >= bytes);
        Assert.Equal(0, dma.GetProperty("blocked").GetInt64());
        Assert.Equal(0, dma.GetProperty("lost").GetInt64());
        Assert.Equal(0, dma.GetProperty("silencedStorms").GetInt64());
        Assert.Equal(0, dma.GetProperty("allocatedBytesPerRequest").GetInt64());
        Assert.Equal(policy == "shadow", dma.GetProperty("bouncedBytes").GetInt64() > 0);
        JsonElement iotlb = json.GetProperty("iotlb");
        Assert.Equal(iommu == "vtd", iotlb.GetProperty("hits").GetInt64() + iotlb.GetProperty("misses").GetInt64() > 0);
        Assert.True(json.GetProperty("seconds").GetDouble() > 0);
        Assert.True(json.GetProperty("bytesPerSecond").GetDouble() > 0);
        Assert.Equal(0, json.GetProperty("rogue").GetArrayLength());
    }

    // The last block of the disk is transferred whole.
    // Seen failing: bouncedBytes always 0; and what was read ahead while warming up counted, on a disk longer than that.
    [Theory]
    [InlineData(40 << 20, "none", "strict", 40 << 20)]
    [InlineData(1, "none", "strict", 512)]
    [InlineData(100_000, "none", "strict", 100_352)]
    [InlineData(5 << 20, "none", "strict", 5 << 20)]
    [InlineData(5 << 20, "vtd", "strict", 0)]
    [InlineData(5 << 20, "vtd", "deferred", 0)]
    public void AControllerOf32BitsIsCopiedForOnlyWhereNothingRemaps(
        long bytes, string iommu, string policy, long bounced)
    {
        using TemporaryFile disk = new(bytes);
        Outcome outcome = SluiceProcess.Run(
            "run", "--disk", disk.Path, "--iommu", iommu, "--policy", policy, "--bounce", "--json");
        Assert.Equal("", outcome.Error);
        Assert.Equal(0, outcome.ExitCode);
        Assert.Equal(disk.Sha256, outcome.Json.GetProperty("disk").GetProperty("sha256").GetString());
        JsonElement dma = outcome.Json.GetProperty("dma");
        Assert.Equal(bounced, dma.GetProperty("bouncedBytes").GetInt64());
        Assert.Equal(0, dma.GetProperty("allocatedBytesPerRequest").GetInt64());
    }

    // Seen failing: no word of the 32-bit controller; bouncedBytes always 0.
    [Fact]
    public void BouncingIsSaidInWords()
    {
        using TemporaryFile disk = new(1 << 20);
        Outcome outcome = SluiceProcess.Run("run", "--disk", disk.Path, "--iommu", "none", "--bounce");
        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains("32-bit controller, buffers above 4 GiB", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("1,048,576 copied", outcome.Output, StringComparison.Ordinal);
    }

    // The answer is what it would be without. Seen failing: silence.
    [Theory]
    [InlineData("sluice run: --policy shadow changes nothing without a remapping unit: not used\n", "none", "shadow")]
    [InlineData("sluice run: --policy deferred changes nothing without a remapping unit: not used\n", "none", "deferred")]
    [InlineData("", "none", "strict")]
    [InlineData("", "vtd", "shadow")]
    public void APolicyWithoutAUnitIsRemarkedOn(string remark, string iommu, string policy)
    {
        using TemporaryFile disk = new(4096);
        Outcome outcome = SluiceProcess.Run("run", "--disk", disk.Path, "--iommu", iommu, "--policy", policy, "--json");
        Assert.Equal((0, remark), (outcome.ExitCode, outcome.Error));
        Assert.Equal(disk.Sha256, outcome.Json.GetProperty("disk").GetProperty("sha256").GetString());
    }

    // Seen failing: no word of storms.
    [Theory]
    [InlineData(0, "7 lost, 3 bytes allocated")]
    [InlineData(1, "7 lost, 1 storm silenced, 3 bytes allocated")]
    [InlineData(2, "7 lost, 2 storms silenced, 3 bytes allocated")]
    public void SilencedStormsAreTold(long storms, string expected)
    {
        using StringWriter text = new(System.Globalization.CultureInfo.InvariantCulture);
        RunDocument run = new()
        {
            Machine = "sim", Iommu = "vtd", Policy = "strict", Disk = new("disk", 512, "00"),
            Dma = new(1, 512, 6, 7, 0, 3, storms), Iotlb = new(0, 0), Seconds = 1, BytesPerSecond = 512, Rogue = [],
        };
        RunText.Write(text, run);
        Assert.Contains(expected, text.ToString(), StringComparison.Ordinal);
        string json = JsonSerializer.Serialize(run, RunJson.Default.RunDocument);
        Assert.Contains($"\"silencedStorms\":{storms}", json, StringComparison.Ordinal);
    }

    // Seen failing: 32 MiB.
    [Fact]
    public void WithoutADiskOneOf64MiBIsMade()
    {
        Outcome outcome = SluiceProcess.Run("run", "--json");
        Assert.Equal(0, outcome.ExitCode);
        Assert.Equal(64 << 20, outcome.Json.GetProperty("disk").GetProperty("bytes").GetInt64());
    }

    // Seen failing: no line with the hash.
    [Fact]
    public void TextSaysWhatPeopleWantToKnowAndHasNoColourInAPipe()
    {
        using TemporaryFile disk = new(100_000);
        Outcome outcome = SluiceProcess.Run("run", "--disk", disk.Path);
        Assert.Equal(0, outcome.ExitCode);
        Assert.Contains(disk.Sha256, outcome.Output, StringComparison.Ordinal);
        Assert.DoesNotContain('\u001b', outcome.Output);
        Assert.Equal("", outcome.Error);
    }
}
