using System.Diagnostics;

namespace Sluice.Scripts.Tests;

/// <summary>Runs a script as a person would, in an environment of its own.</summary>
internal static class Script
{
    private static readonly TimeSpan LongestRun = TimeSpan.FromMinutes(15);

    /// <summary>The checkout whose scripts are tested.</summary>
    public static string Root => CheckoutFolder.Root;

    /// <summary>
    /// Runs a line of bash in <paramref name="folder"/>. Null takes a variable out of the environment.
    /// </summary>
    public static Outcome Run(string folder, string line, params (string Name, string? Value)[] variables)
    {
        ProcessStartInfo start = new("bash", ["-c", line]) { WorkingDirectory = folder };
        foreach ((string name, string? value) in variables)
        {
            if (value is null) { start.Environment.Remove(name); }
            else { start.Environment[name] = value; }
        }
        return ChildProcess.Run(start, LongestRun);
    }

    /// <summary>A word that bash takes as it stands.</summary>
    public static string Quote(string word) => "'" + word.Replace("'", "'\\''", StringComparison.Ordinal) + "'";

    /// <summary>Whether there is such a program.</summary>
    public static bool Has(string program) => Run("/", $"command -v {program}").ExitCode == 0;

    /// <summary>
    /// What to put before a command so that file modes bind it. Root keeps its user, and with it what it owns, but
    /// loses the right to pass over modes.
    /// </summary>
    public static string HeldToModes()
    {
        if (Environment.UserName != "root") { return ""; }
        Assert.SkipUnless(Has("setpriv"), "root needs setpriv to give up its right to pass over file modes");
        return "setpriv --bounding-set=-all --inh-caps=-all ";
    }
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
