using System.Diagnostics;
using System.Text.Json;

namespace Sluice.Cli.Tests;

/// <summary>Runs the real command as a process of its own, as a person would.</summary>
internal static class SluiceProcess
{
    private const int LongestRunMilliseconds = 120_000;

    public static Outcome Run(params string[] arguments) => Run(null, arguments);

    /// <summary>
    /// With <paramref name="shell"/>, the command runs under <c>sh -c</c> with "$@" as its arguments, to set limits
    /// first.
    /// </summary>
    public static Outcome Run(string? shell, string[] arguments) => RunProgram("Sluice.Cli", shell, arguments);

    /// <summary>Another program that was built beside these tests.</summary>
    public static Outcome RunProgram(string name, string? shell, string[] arguments)
    {
        ProcessStartInfo start = new()
        {
            FileName = shell is null ? "dotnet" : "sh",
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.Environment["NO_COLOR"] = "1";
        // Its double mapping of code needs a file larger than the limits that tests set.
        start.Environment["DOTNET_EnableWriteXorExecute"] = "0";
        string command = Path.Combine(AppContext.BaseDirectory, name + ".dll");
        string[] words = shell is null ? [command, .. arguments] : ["-c", shell, "sh", "dotnet", command, .. arguments];
        foreach (string word in words) { start.ArgumentList.Add(word); }
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(LongestRunMilliseconds))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{name} {string.Join(' ', arguments)} did not end in {LongestRunMilliseconds} ms");
        }
        return new(process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
    }
}

/// <summary>What a run printed and how it ended.</summary>
internal sealed record Outcome(int ExitCode, string Output, string Error)
{
    /// <summary>Standard output as the one JSON document it must be.</summary>
    public JsonElement Json => JsonDocument.Parse(Output).RootElement;

    /// <summary>
    /// Asserts the contract for bad input: exit 1, nothing on standard output, exactly one line on standard error.
    /// </summary>
    public string SingleErrorLine()
    {
        Assert.Equal(1, ExitCode);
        Assert.Equal("", Output);
        string line = Assert.Single(Error.TrimEnd('\n').Split('\n'));
        Assert.StartsWith("sluice", line, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", line, StringComparison.Ordinal);
        return line;
    }
}
