namespace Sluice.Tidy.Tests;

/// <summary>The checkout that the tests lint.</summary>
internal static class Repository
{
    public static string Root => CheckoutFolder.Root;

    public static IReadOnlyList<string> Sources { get; } = Find("src", "*.cs");

    public static IReadOnlyList<string> AllCode { get; } =
        [.. Find("src", "*.cs"), .. Find("tests", "*.cs"), .. Find("benchmarks", "*.cs"), .. Find("samples", "*.cs")];

    public static IReadOnlyList<string> Projects { get; } =
        [
            .. Find("src", "*.csproj"), .. Find("tests", "*.csproj"),
            .. Find("benchmarks", "*.csproj"), .. Find("samples", "*.csproj"),
        ];

    public static string Relative(string path) => Path.GetRelativePath(Root, path).Replace('\\', '/');

    /// <summary>The files of a folder that people wrote. A folder that is not there is an error: a rule that looks at
    /// nothing holds.</summary>
    public static IReadOnlyList<string> Find(string folder, string pattern) =>
        [.. Directory.EnumerateFiles(Path.Combine(Root, folder), pattern, SearchOption.AllDirectories)
            .Where(static path => !Relative(path).Split('/').Any(
                static part => part is "obj" or "bin" or "artifacts" or ".git"))
            .Order(StringComparer.Ordinal)];
}
