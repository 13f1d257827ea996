using System.Text.Json.Serialization;

namespace Sluice.Cli.Serve;

/// <summary>
/// What <c>sluice machine --json</c> prints. The names and meanings are a contract: add, never change.
/// </summary>
/// <param name="Socket">Where the client listens.</param>
/// <param name="Functions">What is plugged in.</param>
internal sealed record MachineDocument(string Socket, IReadOnlyList<MachineFunction> Functions)
{
    /// <summary>The version of this contract.</summary>
    public int Version { get; init; } = 1;
}

/// <summary>A PCI function.</summary>
/// <param name="Name">The model's name.</param>
/// <param name="Address">Segment, bus, device and function.</param>
internal sealed record MachineFunction(string Name, string Address);

/// <summary>The serializer, made at build time.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(MachineDocument))]
internal sealed partial class MachineJson : JsonSerializerContext;
