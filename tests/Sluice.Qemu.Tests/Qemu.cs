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
        string? script = Script();
        if (script is null) { return (null, "QEMU is not there, and neither is eng/qemu.sh"); }
        using Process process = Process.Start(new ProcessStartInfo(script)
        {
            RedirectStandardError = true, RedirectStandardOutput = true, RedirectStandardInput = true,
        })!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string path = process.StandardOutput.ReadToEnd().Trim();
        process.WaitForExit();
        return path.Length > 0 ? (path, "") : (null, errors.Result.Trim().Split('\n')[^1]);
    }

    private static string? Script()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string script = Path.Combine(folder.FullName, "eng", "qemu.sh");
            if (File.Exists(script)) { return script; }
        }
        return null;
    }
}
