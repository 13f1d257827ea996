using System.Text.Json.Serialization;

namespace Sluice.Cli.Walk;

/// <summary>
/// What <c>sluice walk --json ADDRESS…</c> prints. The names and meanings are a contract: add, never change.
/// </summary>
/// <param name="Version">The version of this contract.</param>
/// <param name="Format">The table format.</param>
/// <param name="Translations">One per address, in the order given.</param>
internal sealed record TranslationDocument(int Version, string Format, IReadOnlyList<WalkTranslation> Translations);

/// <summary>One address; on a fault everything but the address and the fault is null.</summary>
internal sealed record WalkTranslation(
    string Logical, string? Physical, string? Access, ulong? PageSize, string? Fault);

/// <summary>
/// What <c>sluice walk --json</c> prints without addresses. The names and meanings are a contract: add, never change.
/// </summary>
/// <param name="Version">The version of this contract.</param>
/// <param name="Format">The table format.</param>
/// <param name="Ranges">Everything mapped, by logical address, merged.</param>
/// <param name="Damage">Entries that could not be followed.</param>
internal sealed record ListingDocument(
    int Version, string Format, IReadOnlyList<WalkRange> Ranges, IReadOnlyList<WalkDamage> Damage);

/// <summary>A run of mapped addresses; a length of 0 stands for all 2^64 bytes.</summary>
internal sealed record WalkRange(string Logical, string Physical, ulong Length, string Access);

/// <summary>A damaged entry.</summary>
internal sealed record WalkDamage(string Table, ulong Index, int Level, string Problem);

/// <summary>The serializer, made at build time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(TranslationDocument))]
[JsonSerializable(typeof(ListingDocument))]
internal sealed partial class WalkJson : JsonSerializerContext;
