using System.CommandLine;
using System.CommandLine.Parsing;

namespace Sluice.Cli;

/// <summary>The verbs, and the one place where an error becomes a line and an exit status.</summary>
internal static class CommandLine
{
    // A word is what it says: no file of further words behind an @.
    private static readonly ParserConfiguration Plain = new() { ResponseFileTokenReplacer = null };

    /// <summary>Runs one command line and gives its exit status. Nothing escapes.</summary>
    public static int Run(string[] args, Terminal terminal)
    {
        string name = "sluice";
        try
        {
            RootCommand root = new("DMA remapping for .NET: block, log and explain every bad DMA.")
            {
                Cli.Run.RunCommand.Create(terminal), Bench.BenchCommand.Create(terminal),
                Walk.WalkCommand.Create(terminal), Serve.MachineCommand.Create(terminal),
            };
            // Completion for shells, as [suggest], is nothing that we promise.
            root.Directives.Clear();
            InvocationConfiguration invocation = new()
            {
                Output = terminal.Output, Error = terminal.Error,
                // These would print a stack trace, and end the process on signals: both is done here and in Signals.
                EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null,
            };
            if (args.Length == 0)
            {
                // Somebody who knows nothing yet: show what there is.
                root.Parse(["--help"], Plain).Invoke(invocation);
                return ExitCode.Error;
            }
            ParseResult parsed = root.Parse(args, Plain);
            name = Name(parsed);
            // The parser takes the first words in brackets for its own, and drops those that it does not know.
            if (parsed.Tokens.FirstOrDefault(static token => token.Type == TokenType.Directive) is { } word)
            {
                throw new CommandException($"there is no command '{word.Value}'. Try 'sluice --help'.");
            }
            return parsed.Errors.Count == 0 ? parsed.Invoke(invocation) : throw new CommandException(Explain(parsed));
        }
        catch (CommandException error)
        {
            terminal.Remark($"{name}: {error.Message}");
            return error.ExitCode;
        }
        catch (Exception error) when ((error is TypeInitializationException ? error.InnerException : error)
            is { } cause && (ErrorText.IsOfAFile(cause) || cause is OutOfMemoryException))
        {
            terminal.Remark($"{name}: {ErrorText.Of(error)}");
            return ExitCode.Error;
        }
        catch (Exception error)
        {
            // Ours to mend. Where it happened is what we would ask for.
            string where = error.StackTrace?.Split('\n')[0].Trim() ?? "nowhere";
            terminal.Remark(
                $"{name}: this is a mistake in sluice: {error.GetType().Name} {where}: {ErrorText.Of(error)}");
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
        string first = ErrorText.OneLine(parsed.Errors[0].Message);
        return $"{first}. Try '{Name(parsed)} --help'.";
    }
}
