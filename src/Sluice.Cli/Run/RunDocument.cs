using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Sluice.Cli.Run;

/// <summary>What <c>sluice run --json</c> prints. The names and meanings are a contract: add, never change.</summary>
internal sealed record RunDocument
{
    /// <summary>The version of this contract.</summary>
    public int Version { get; init; } = 1;

    /// <summary>sim or qemu.</summary>
    public required string Machine { get; init; }

    /// <summary>vtd or none.</summary>
    public required string Iommu { get; init; }

    /// <summary>strict, deferred or shadow.</summary>
    public required string Policy { get; init; }

    /// <summary>What was read.</summary>
    public required RunDisk Disk { get; init; }

    /// <summary>What the DMA of the reading cost.</summary>
    public required RunDma Dma { get; init; }

    /// <summary>The unit's translation cache during the reading.</summary>
    public required RunIotlb Iotlb { get; init; }

    /// <summary>Wall time of the reading.</summary>
    public required double Seconds { get; init; }

    /// <summary>Disk bytes over seconds.</summary>
    public required double BytesPerSecond { get; init; }

    /// <summary>Whether the controller drove 32 bits only. Not part of the document.</summary>
    [JsonIgnore]
    public bool Bounce { get; init; }

    /// <summary>The misbehaviours that were tried; empty without --rogue.</summary>
    public required IReadOnlyList<RogueOutcome> Rogue { get; init; }
}

/// <summary>The disk image.</summary>
internal sealed record RunDisk(string Path, long Bytes, string Sha256);

/// <summary>DMA of the reading: scatter/gather lists taken, bytes in them, what was refused or copied.</summary>
internal sealed record RunDma(
    long Requests, long Bytes, long Blocked, long Lost, long BouncedBytes, long AllocatedBytesPerRequest,
    long SilencedStorms);

/// <summary>Translation cache counts; null where the hardware does not count, as QEMU's.</summary>
internal sealed record RunIotlb(long? Hits, long? Misses);

/// <summary>
/// One misbehaviour: what became of it, and the report that explains it (null when nothing was logged).
/// </summary>
/// <param name="Case">Its name.</param>
/// <param name="Blocked">Whether it was kept from what it was aimed at.</param>
/// <param name="Logged">Whether a report arrived.</param>
/// <param name="MemoryUnchanged">Whether memory is as it was.</param>
/// <param name="Report">The report.</param>
internal sealed record RogueOutcome(string Case, bool Blocked, bool Logged, bool MemoryUnchanged, JsonNode? Report)
{
    /// <summary>Why it was not blocked, logged and harmless; null when it was.</summary>
    public string? Reason { get; init; }

    /// <summary>What it changed of the memory that it was aimed at; null when nothing.</summary>
    public RogueChange? Changed { get; init; }

    /// <summary>The first bytes of what the device read and should not have, hexadecimal; null when nothing.</summary>
    public string? Taken { get; init; }

    /// <summary>The report for people; not part of the document.</summary>
    [JsonIgnore]
    public string ReportText { get; init; } = "";

    /// <summary>Blocked, logged, and nothing harmed.</summary>
    [JsonIgnore]
    public bool IsContained => Blocked && Logged && MemoryUnchanged;
}

/// <summary>Memory that was changed.</summary>
/// <param name="First">The physical address of the first byte that is another now, hexadecimal.</param>
/// <param name="Last">Of the last one.</param>
/// <param name="Bytes">How many of those between them are others now.</param>
/// <param name="Before">What the first of them were, hexadecimal.</param>
/// <param name="After">What they are.</param>
internal sealed record RogueChange(string First, string Last, int Bytes, string Before, string After);

/// <summary>The serializer, made at build time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(RunDocument))]
internal sealed partial class RunJson : JsonSerializerContext;
