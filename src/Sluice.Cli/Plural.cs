using System.Globalization;

namespace Sluice.Cli;

/// <summary>Counts as people read them: <c>1 request</c>, <c>2,048 requests</c>.</summary>
internal static class Plural
{
    /// <summary>A count and its word.</summary>
    /// <param name="count">How many.</param>
    /// <param name="one">The word for one.</param>
    /// <param name="many">The word for any other number; <paramref name="one"/> and an s without.</param>
    public static string Of(long count, string one, string? many = null) =>
        $"{count.ToString("N0", CultureInfo.InvariantCulture)} {(count == 1 ? one : many ?? one + "s")}";
}
