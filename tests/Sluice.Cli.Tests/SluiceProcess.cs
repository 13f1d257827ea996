using System.Diagnostics;

namespace Sluice.Cli.Tests;

/// <summary>Runs the real command as a process of its own, as a person would.</summary>
internal static class SluiceProcess
{
    private static readonly TimeSpan LongestRun = TimeSpan.FromMinutes(2);

    public static Outcome Run(params string[] arguments) => Run(null, arguments);

    /// <summary>
    /// With <paramref name="shell"/>, the command runs under <c>sh -c</c> with "$@" as its arguments, to set limits
    /// first.
    /// </summary>
    public static Outcome Run(string? shell, string[] arguments) => RunProgram("Sluice.Cli", shell, arguments);

    /// <summary>Another program that was built beside these tests.</summary>
    public static Outcome RunProgram(string name, string? shell, string[] arguments)
    {
        string command = Path.Combine(AppContext.BaseDirectory, name + ".dll");
        ProcessStartInfo start = shell is null ? new("dotnet", [command, .. arguments])
            : new("sh", ["-c", shell, "sh", "dotnet", command, .. arguments]);
        start.Environment["NO_COLOR"] = "1";
        // Its double mapping of code needs a file larger than the limits that tests set.
        start.Environment["DOTNET_EnableWriteXorExecute"] = "0";
        return ChildProcess.Run(start, LongestRun);
    }
}
