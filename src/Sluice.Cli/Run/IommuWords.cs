namespace Sluice.Cli.Run;

/// <summary>What <c>--iommu</c> says.</summary>
internal static class IommuWords
{
    private static readonly string[] ToCome = ["amdvi", "gart", "dart", "mapregs"];

    /// <summary>Reads the word.</summary>
    /// <exception cref="CommandException">There is no such unit, or not yet.</exception>
    public static IommuKind Parse(string word) => word switch
    {
        "vtd" => IommuKind.Vtd,
        "none" => IommuKind.None,
        _ when ToCome.Contains(word) =>
            throw new CommandException($"--iommu {word} is not in this version; use vtd or none"),
        _ => throw new CommandException($"--iommu does not know '{word}'; use vtd or none"),
    };
}
