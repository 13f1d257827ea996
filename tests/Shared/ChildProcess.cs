using System.Diagnostics;
using System.Text.Json;

namespace Sluice.Testing;

/// <summary>Runs another program to its end, for at most so long.</summary>
internal static class ChildProcess
{
    /// <summary>Starts it with its standard input empty, waits, and gives what it printed.</summary>
    /// <param name="start">What to start; its standard streams are redirected here.</param>
    /// <param name="longest">After so long it is killed with all that it started, and the test has failed.</param>
    public static Outcome Run(ProcessStartInfo start, TimeSpan longest)
    {
        using RunningProcess process = RunningProcess.Start(start);
        return process.AwaitEnd(longest);
    }

    /// <summary>The same with a program's name and its words.</summary>
    public static Outcome Run(string program, params string[] arguments) =>
        Run(new ProcessStartInfo(program, arguments), TimeSpan.FromMinutes(2));
}

/// <summary>Another program while it runs; both its streams are read as it writes.</summary>
internal sealed class RunningProcess : IDisposable
{
    private readonly Process _process;
    private readonly Task<string> _output;
    private readonly Task<string> _error;

    private RunningProcess(Process process)
    {
        _process = process;
        _process.StandardInput.Close();
        _output = process.StandardOutput.ReadToEndAsync();
        _error = process.StandardError.ReadToEndAsync();
    }

    /// <summary>Its process id.</summary>
    public int Id => _process.Id;

    /// <summary>Starts it with its standard input empty.</summary>
    public static RunningProcess Start(ProcessStartInfo start)
    {
        start.RedirectStandardInput = start.RedirectStandardOutput = start.RedirectStandardError = true;
        return new(Process.Start(start)!);
    }

    /// <summary>Waits for its end.</summary>
    /// <param name="longest">After so long it is killed with all that it started, and the test has failed.</param>
    public Outcome AwaitEnd(TimeSpan longest)
    {
        if (!_process.WaitForExit(longest))
        {
            _process.Kill(entireProcessTree: true);
            string line = string.Join(' ', [_process.StartInfo.FileName, .. _process.StartInfo.ArgumentList]);
            Assert.Fail($"{line} did not end in {longest.TotalSeconds} s");
        }
        return new(_process.ExitCode, _output.GetAwaiter().GetResult(), _error.GetAwaiter().GetResult());
    }

    public void Dispose() => _process.Dispose();
}

/// <summary>What a run printed and how it ended.</summary>
internal sealed record Outcome(int ExitCode, string Output, string Error)
{
    /// <summary>The lines of standard error.</summary>
    public string[] Errors => Lines(Error);

    /// <summary>The lines of standard output.</summary>
    public string[] Outputs => Lines(Output);

    /// <summary>Standard output as the one JSON document it must be.</summary>
    public JsonElement Json => JsonDocument.Parse(Output).RootElement;

    /// <summary>Asserts that it ended well and returns its output without the last line's end.</summary>
    public string Good()
    {
        Assert.True(ExitCode == 0, $"ended with {ExitCode}\n{Output}{Error}");
        return Output.TrimEnd('\n');
    }

    /// <summary>
    /// Asserts that it failed with one line on standard error and nothing else, and returns that line.
    /// </summary>
    public string OneLine()
    {
        Assert.True(ExitCode != 0 && Output.Length == 0, $"ended with {ExitCode}\n{Output}{Error}");
        return Assert.Single(Errors);
    }

    /// <summary>The command's contract for bad input: status 1 and one line that says who speaks, no trace.</summary>
    public string SingleErrorLine()
    {
        Assert.Equal(1, ExitCode);
        string line = OneLine();
        Assert.StartsWith("sluice", line, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", line, StringComparison.Ordinal);
        return line;
    }

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}
