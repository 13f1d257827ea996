using System.Diagnostics;

namespace Sluice.Scripts.Tests;

/// <summary>Runs a script as a person would, in an environment of its own.</summary>
internal static class Script
{
    private const int LongestRunMilliseconds = 900_000;

    /// <summary>The checkout whose scripts are tested.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>
    /// Runs a line of bash in <paramref name="folder"/>. Null takes a variable out of the environment.
    /// </summary>
    public static Outcome Run(string folder, string line, params (string Name, string? Value)[] variables)
    {
        ProcessStartInfo start = new("bash", ["-c", line])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach ((string name, string? value) in variables)
        {
            if (value is null) { start.Environment.Remove(name); }
            else { start.Environment[name] = value; }
        }
        using Process process = Process.Start(start)!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(LongestRunMilliseconds))
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{line} did not end in {LongestRunMilliseconds} ms");
        }
        return new(process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
    }

    /// <summary>A word that bash takes as it stands.</summary>
    public static string Quote(string word) => "'" + word.Replace("'", "'\\''", StringComparison.Ordinal) + "'";

    /// <summary>Whether there is such a program.</summary>
    public static bool Has(string program) => Run("/", $"command -v {program}").ExitCode == 0;

    /// <summary>
    /// What to put before a command so that file modes bind it. Root keeps its user, and with it what it owns, but loses
    /// the right to pass over modes.
    /// </summary>
    public static string HeldToModes()
    {
        if (Environment.UserName != "root") { return ""; }
        Assert.SkipUnless(Has("setpriv"), "root needs setpriv to give up its right to pass over file modes");
        return "setpriv --bounding-set=-all --inh-caps=-all ";
    }

    private static string FindRoot()
    {
        DirectoryInfo folder = new(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "Sluice.slnx"))) { folder = folder.Parent!; }
        return folder.FullName;
    }
}

/// <summary>What a run printed and how it ended.</summary>
internal sealed record Outcome(int ExitCode, string Output, string Error)
{
    /// <summary>The lines of standard error.</summary>
    public string[] Errors => Lines(Error);

    /// <summary>The lines of standard output.</summary>
    public string[] Outputs => Lines(Output);

    /// <summary>Asserts that it ended well and returns its output without the last line's end.</summary>
    public string Good()
    {
        Assert.True(ExitCode == 0, $"ended with {ExitCode}\n{Output}{Error}");
        return Output.TrimEnd('\n');
    }

    /// <summary>Asserts that it failed with one line on standard error and nothing else, and returns that line.</summary>
    public string OneLine()
    {
        Assert.True(ExitCode != 0 && Output.Length == 0, $"ended with {ExitCode}\n{Output}{Error}");
        return Assert.Single(Errors);
    }

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}

/// <summary>A folder of a test's own, gone after it.</summary>
internal sealed class Folder : IDisposable
{
    public Folder() => Path = Directory.CreateTempSubdirectory("sluice-scripts-").FullName;

    public string Path { get; }

    /// <summary>Writes a file, with the folders above it.</summary>
    public string Write(string name, string content, bool executable = false)
    {
        string path = System.IO.Path.Combine(Path, name);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        File.WriteAllText(path, content);
        if (executable && !OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(path, File.GetUnixFileMode(path) | UnixFileMode.UserExecute);
        }
        return path;
    }

    public void Dispose() => Script.Run("/", $"chmod -R u+rwX {Script.Quote(Path)}; rm -rf {Script.Quote(Path)}");
}
