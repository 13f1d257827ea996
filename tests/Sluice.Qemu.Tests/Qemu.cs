using System.Diagnostics;
using Sluice.Machines.Qemu;

namespace Sluice.Qemu.Tests;

/// <summary>
/// Whether there is a QEMU to test with: fetched once by the script. Absent, tests are skipped; but not in CI.
/// </summary>
internal static class Qemu
{
    private static readonly Lazy<(string? Path, string Reason)> Found = new(Find);

    /// <summary>The program, or the test ends here: skipped with the reason, failed in CI.</summary>
    public static string Require()
    {
        (string? path, string reason) = Found.Value;
        if (path is null && Environment.GetEnvironmentVariable("CI") == "true") { Assert.Fail(reason); }
        Assert.SkipWhen(path is null, reason);
        return path!;
    }

    private static (string?, string) Find()
    {
        if (QemuLauncher.Find() is { } there) { return (there, ""); }
        string script = CheckoutFolder.At("eng", "qemu.sh");
        if (!File.Exists(script)) { return (null, "QEMU is not there, and neither is eng/qemu.sh"); }
        Outcome outcome = ChildProcess.Run(new ProcessStartInfo(script), TimeSpan.FromMinutes(15));
        return outcome.Output.Trim() is { Length: > 0 } path ? (path, "") : (null, outcome.Errors.LastOrDefault(""));
    }
}
