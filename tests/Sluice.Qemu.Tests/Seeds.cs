using System.Globalization;

namespace Sluice.Qemu.Tests;

/// <summary>Which random programs to run: all tests with programs obey the same two variables.</summary>
internal static class Seeds
{
    /// <summary>
    /// The first seed and how many: from 1 on, unless <c>SLUICE_SEED</c> names one to replay, or with
    /// <c>SLUICE_PROGRAMS</c> the first of so many.
    /// </summary>
    public static (int First, int Programs) Choose(int usually) =>
        (Number("SLUICE_SEED", 1),
            Number("SLUICE_PROGRAMS", Environment.GetEnvironmentVariable("SLUICE_SEED") is null ? usually : 1));

    private static int Number(string variable, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(variable), NumberStyles.None, CultureInfo.InvariantCulture,
            out int value) ? value : otherwise;
}
