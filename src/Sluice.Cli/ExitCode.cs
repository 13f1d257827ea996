namespace Sluice.Cli;

/// <summary>What the command's exit status means; the same for every verb.</summary>
internal static class ExitCode
{
    /// <summary>Done, nothing to report.</summary>
    public const int Clean = 0;

    /// <summary>The command line is wrong, or the tool could not do its work.</summary>
    public const int Error = 1;

    /// <summary>Done, and something was found.</summary>
    public const int Findings = 2;

    /// <summary>The input is damaged or incomplete; the answer is partial.</summary>
    public const int Damaged = 3;
}

/// <summary>Ends the command with one line for the person at the keyboard.</summary>
internal sealed class CommandException(string message, int exitCode = ExitCode.Error) : Exception(message)
{
    /// <summary>The exit status.</summary>
    public int ExitCode { get; } = exitCode;
}
