using System.CommandLine;
using System.CommandLine.Parsing;

namespace Sluice.Cli;

/// <summary>The verbs, and the one place where an error becomes a line and an exit status.</summary>
internal static class CommandLine
{
    /// <summary>Runs one command line and gives its exit status.</summary>
    public static int Run(string[] args)
    {
        RootCommand root = new("DMA remapping for .NET: block, log and explain every bad DMA.")
        {
            Cli.Run.RunCommand.Create(), Bench.BenchCommand.Create(), Walk.WalkCommand.Create(),
            Serve.MachineCommand.Create(),
        };
        if (args.Length == 0)
        {
            // Somebody who knows nothing yet: show what there is.
            root.Parse(["--help"]).Invoke();
            return ExitCode.Error;
        }
        ParseResult parsed = root.Parse(args);
        try
        {
            if (parsed.Errors.Count > 0) { throw new CommandException(Explain(parsed)); }
            // The default handler would print a stack trace; below, an error is one line.
            return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (CommandException error)
        {
            Console.Error.WriteLine($"{Name(parsed)}: {error.Message}");
            return error.ExitCode;
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or OutOfMemoryException)
        {
            Console.Error.WriteLine($"{Name(parsed)}: {error.Message.ReplaceLineEndings(" ")}");
            return ExitCode.Error;
        }
    }

    private static string Name(ParseResult parsed) =>
        parsed.CommandResult.Command is RootCommand ? "sluice" : $"sluice {parsed.CommandResult.Command.Name}";

    private static string Explain(ParseResult parsed)
    {
        if (parsed.UnmatchedTokens is [var word, ..] && parsed.CommandResult.Command is RootCommand)
        {
            return $"there is no command '{word}'. Try 'sluice --help'.";
        }
        // One mistake is enough for one line; the parser repeats itself for words it could not place.
        string first = parsed.Errors[0].Message.TrimEnd('.').ReplaceLineEndings(" ");
        return $"{first}. Try '{Name(parsed)} --help'.";
    }
}
