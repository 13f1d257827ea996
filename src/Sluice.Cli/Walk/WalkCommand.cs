using System.CommandLine;
using System.Globalization;
using Sluice.Formats.PageTables;

namespace Sluice.Cli.Walk;

/// <summary><c>sluice walk</c>: its options, their checks, and its help.</summary>
internal static class WalkCommand
{
    /// <summary>The verb.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string> image = new("--image")
        {
            HelpName = "FILE", Description = "Raw physical memory.", Required = true,
        };
        Option<string> format = new("--format")
        {
            HelpName = "NAME",
            Description = $"The table format: {string.Join(' ', PageTableFormats.Names)}.",
            Required = true,
        };
        Option<string> root = new("--root")
        {
            HelpName = "ADDR",
            Description = "The physical address of the top table, or of the flat one.",
            Required = true,
        };
        Option<string?> first = new("--base")
        {
            HelpName = "ADDR", Description = "The physical address of the file's first byte; 0 without.",
        };
        Option<string?> levels = new("--levels")
        {
            HelpName = "N", Description = "Levels of tables; the format's usual number without.",
        };
        Option<string?> stage = new("--stage")
        {
            HelpName = "1|2", Description = "Arm: the translation stage; 1 without.",
        };
        Option<string?> inputBits = new("--input-bits")
        {
            HelpName = "N", Description = "Arm: address bits that the tables translate; 48 without.",
        };
        Option<string?> entries = new("--entries")
        {
            HelpName = "N", Description = "gart and dart-u3: entries of the flat table.",
        };
        Option<string?> aperture = new("--aperture")
        {
            HelpName = "ADDR",
            Description = "gart and dart-u3: the first logical address that the table translates; 0 without.",
        };
        Option<bool> json = new("--json")
        {
            Description = "One JSON document on standard output; its fields are a contract.",
        };
        Argument<string[]> addresses = new("ADDRESS")
        {
            Description = "Logical addresses to translate; without, everything mapped is listed.",
            Arity = ArgumentArity.ZeroOrMore,
        };
        Command command = new("walk", """
            Translates addresses through page tables in a memory image, or lists everything they map.

            Examples:
              sluice walk --image memory.raw --format vtd-ss --root 0x1a7d000 0xffffe000
              sluice walk --image memory.raw --format amdv1 --root 0x2000 --levels 4 --json
              sluice walk --image ram.bin --base 0x80000000 --format arm-4k --root 0x80010000 --input-bits 39
              sluice walk --image memory.raw --format gart --root 0x100000 --entries 16384 --aperture 0xf0000000

            Exit status: 0 the tables are sound; 1 usage or tool error; 3 damaged tables, the answer is partial.
            """)
        {
            image, format, root, first, levels, stage, inputBits, entries, aperture, json, addresses,
        };
        command.SetAction(result => new WalkJob(terminal).Execute(new WalkOptions(
            result.GetRequiredValue(image),
            new(Number("--base", result.GetValue(first)) ?? 0),
            result.GetRequiredValue(format),
            new()
            {
                Root = new(Number("--root", result.GetRequiredValue(root))!.Value),
                Levels = Small("--levels", result.GetValue(levels)),
                Stage = Small("--stage", result.GetValue(stage)) ?? 1,
                InputBits = Small("--input-bits", result.GetValue(inputBits)),
                Entries = Number("--entries", result.GetValue(entries)),
                Aperture = new(Number("--aperture", result.GetValue(aperture)) ?? 0),
            },
            [
                .. (result.GetValue(addresses) ?? [])
                    .Select(static word => new LogicalAddress(Number("ADDRESS", word)!.Value)),
            ],
            result.GetValue(json))));
        return command;
    }

    private static int? Small(string option, string? word) => Number(option, word) switch
    {
        null => null,
        <= int.MaxValue and { } number => (int)number,
        _ => throw new CommandException($"{option} '{word}' is too large"),
    };

    private static ulong? Number(string option, string? word)
    {
        if (word is null) { return null; }
        bool hexadecimal = word.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        bool parsed = hexadecimal
            ? ulong.TryParse(
                word.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong number)
            : ulong.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out number);
        return parsed
            ? number
            : throw new CommandException($"{option} '{word}' is not a number; write it decimal or as 0x hexadecimal");
    }
}
