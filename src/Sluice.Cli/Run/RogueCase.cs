namespace Sluice.Cli.Run;

/// <summary>
/// The ways a device or its driver misbehaves. The names on the command line are these in kebab-case.
/// </summary>
internal enum RogueCase
{
    /// <summary>The device reads an address that nobody mapped.</summary>
    UnmappedRead,

    /// <summary>The device writes an address that nobody mapped.</summary>
    UnmappedWrite,

    /// <summary>The device writes a buffer that was mapped for it to read.</summary>
    WriteToReadonly,

    /// <summary>The device reads a buffer that was mapped for it to write.</summary>
    ReadFromWriteonly,

    /// <summary>The device writes past the end of its buffer.</summary>
    Overrun,

    /// <summary>The device writes a buffer that the driver has already taken back.</summary>
    Stale,

    /// <summary>The device writes the kernel's interrupt table.</summary>
    Kernel,

    /// <summary>The device writes a buffer of another device.</summary>
    OtherDevice,

    /// <summary>The driver hands the device a physical address instead of a logical one.</summary>
    Physical,
}

/// <summary>Their names on the command line and in JSON.</summary>
internal static class RogueCases
{
    /// <summary>Every case, in the order they run.</summary>
    public static IReadOnlyList<RogueCase> All { get; } = Enum.GetValues<RogueCase>();

    /// <summary>The name, as <c>write-to-readonly</c>.</summary>
    public static string Name(this RogueCase rogue) => rogue switch
    {
        RogueCase.UnmappedRead => "unmapped-read",
        RogueCase.UnmappedWrite => "unmapped-write",
        RogueCase.WriteToReadonly => "write-to-readonly",
        RogueCase.ReadFromWriteonly => "read-from-writeonly",
        RogueCase.Overrun => "overrun",
        RogueCase.Stale => "stale",
        RogueCase.Kernel => "kernel",
        RogueCase.OtherDevice => "other-device",
        RogueCase.Physical => "physical",
        _ => throw new ArgumentOutOfRangeException(nameof(rogue)),
    };

    /// <summary>Reads <c>all</c> or a comma-separated list; each case once, in running order.</summary>
    /// <exception cref="CommandException">A word is not a case.</exception>
    public static IReadOnlyList<RogueCase> Parse(string words)
    {
        if (string.IsNullOrWhiteSpace(words)) { throw new CommandException("--rogue needs all, or a case"); }
        HashSet<RogueCase> wanted = [];
        foreach (string word in words.Split(',', StringSplitOptions.TrimEntries))
        {
            if (word == "all")
            {
                wanted.UnionWith(All);
                continue;
            }
            RogueCase[] match = [.. All.Where(rogue => rogue.Name() == word)];
            if (match.Length == 0)
            {
                throw new CommandException(
                    $"--rogue does not know '{word}'; use all or some of {string.Join(' ', All.Select(Name))}");
            }
            wanted.Add(match[0]);
        }
        return [.. All.Where(wanted.Contains)];
    }
}
