using System.Globalization;
using System.Text.Json;
using Sluice.Formats.PageTables;

namespace Sluice.Cli.Walk;

/// <summary>Does what <c>sluice walk</c> promises: translate, or list.</summary>
internal sealed class WalkJob(Terminal terminal)
{
    private const int Version = 1;
    private const int MostLevels = 6;
    private readonly TextWriter _output = terminal.Output;

    /// <summary>Walks and prints.</summary>
    /// <returns>The exit status.</returns>
    public int Execute(WalkOptions options)
    {
        if (!PageTableFormats.TryFind(options.Format, options.Tables, out IPageTableReader? reader, out string problem))
        {
            throw new CommandException(problem);
        }
        using MemoryImage image = MemoryImage.Open(options.ImagePath, options.Base);
        // An error is one line and nothing else, so what is remarked on comes after what can be wrong.
        if (problem.Length > 0) { Remark(problem); }
        PhysicalRange held = image.Range;
        bool isHeld = options.Tables.Root >= held.First && options.Tables.Root <= held.Last;
        if (!isHeld)
        {
            Remark($"the top table at {Hex(options.Tables.Root)} lies outside the image, which holds "
                + $"{Hex(held.First)} to {Hex(held.Last)}; are --root and --base right?");
        }
        (bool damaged, bool foundSome) = options.Addresses.Count > 0
            ? Translate(options, reader, image.Memory)
            : List(options, reader, image.Memory);
        if (image.Problem is { } partial) { Remark($"the image could not be read whole: {partial}; the answer is partial"); }
        int status = damaged || image.Problem is not null ? ExitCode.Damaged : ExitCode.Clean;
        if (isHeld && !foundSome && image.Problem is null && MapsNothing(options, reader, image.Memory))
        {
            Remark(Suggest(options, reader));
        }
        return status;
    }

    // That nothing is mapped where somebody looked says nothing about the rest of the tables.
    private static bool MapsNothing(WalkOptions options, IPageTableReader reader, ImageMemory memory) =>
        options.Addresses.Count == 0 || reader.List(memory, ListingLimits.Default).Ranges.Count == 0;

    // Tables read with a wrong shape hold nothing, or nonsense.
    private static string Suggest(WalkOptions options, IPageTableReader reader)
    {
        int levels = reader.Root.TopLevel + 1;
        string[] others =
        [
            .. Enumerable.Range(1, MostLevels).Where(n => n != levels
                && PageTableFormats.TryFind(options.Format, options.Tables with { Levels = n }, out _, out string problem)
                && problem.Length == 0).Select(static n => n.ToString(CultureInfo.InvariantCulture)),
        ];
        const string Nothing = "nothing is mapped";
        if (others.Length > 0)
        {
            return $"{Nothing} by tables of {Plural.Of(levels, "level")}; is --root right, or do they have other --levels "
                + $"({string.Join(" or ", others)})?";
        }
        return reader.Root.Entries != 0 ? $"{Nothing}; are --root, --entries and --aperture right?"
            : options.Format.StartsWith("arm-", StringComparison.Ordinal)
                ? $"{Nothing}; are --root, --input-bits and --stage right?"
                : $"{Nothing}; are --root and --format right?";
    }

    private (bool Damaged, bool FoundSome) Translate(
        WalkOptions options, IPageTableReader reader, ImageMemory memory)
    {
        List<WalkTranslation> translations = [];
        bool damaged = false;
        foreach (LogicalAddress address in options.Addresses)
        {
            Translation found = reader.Translate(memory, address);
            damaged |= found.Status is WalkStatus.ReservedBits or WalkStatus.BadPointer;
            translations.Add(found.Status == WalkStatus.Mapped
                ? new(Hex(address), Hex(found.Address), Name(found.Access), 1UL << found.PageSizeLog2, null)
                : new(Hex(address), null, null, null, Name(found.Status)));
        }
        if (options.Json)
        {
            _output.WriteLine(JsonSerializer.Serialize(
                new(Version, reader.Format, translations), WalkJson.Default.TranslationDocument));
        }
        else
        {
            foreach (WalkTranslation t in translations)
            {
                _output.WriteLine(t.Fault is null
                    ? $"{t.Logical,-20} → {t.Physical,-20} {t.Access,-3} {ByteSize.Format(t.PageSize!.Value)} page"
                    : $"{t.Logical,-20} ✗ {t.Fault}");
            }
        }
        return (damaged, translations.Any(static t => t.Fault is null));
    }

    private (bool Damaged, bool FoundSome) List(WalkOptions options, IPageTableReader reader, ImageMemory memory)
    {
        PageTableListing listing = reader.List(memory, ListingLimits.Default);
        if (options.Json)
        {
            ListingDocument document = new(
                Version,
                reader.Format,
                [
                    .. listing.Ranges.Select(static r =>
                        new WalkRange(Hex(r.Logical.First), Hex(r.Physical), r.Logical.Length, Name(r.Access))),
                ],
                [
                    .. listing.Damage.Select(static d =>
                        new WalkDamage(Hex(d.Table), d.Index, d.Level, Name(d.Problem))),
                ]);
            _output.WriteLine(JsonSerializer.Serialize(document, WalkJson.Default.ListingDocument));
        }
        else
        {
            Write(listing);
        }
        return (listing.Damage.Count > 0, listing.Ranges.Count > 0);
    }

    private void Write(PageTableListing listing)
    {
        _output.WriteLine($"{"logical",-20} {"last",-20} {"physical",-20} {"access",-7} size");
        double total = 0;
        foreach (MappedRange range in listing.Ranges)
        {
            // The whole 64-bit space has a length that does not fit.
            double bytes = range.Logical.LengthMinusOne + 1.0;
            total += bytes;
            _output.WriteLine(
                $"{Hex(range.Logical.First),-20} {Hex(range.Logical.Last),-20} {Hex(range.Physical),-20} "
                + $"{Name(range.Access),-7} {ByteSize.Format(bytes)}");
        }
        _output.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{Plural.Of(listing.Ranges.Count, "range")}, "
            + $"{ByteSize.Format(total)} mapped"));
        if (listing.Damage.Count == 0) { return; }
        _output.WriteLine();
        foreach (TableDamage damage in listing.Damage)
        {
            _output.WriteLine(
                $"damaged: entry {damage.Index} of the level {damage.Level} table at {Hex(damage.Table)}: "
                + Name(damage.Problem));
        }
    }

    // What a person should know and a program need not: the answer is as complete as without it.
    private void Remark(string remark) => terminal.Remark($"sluice walk: {remark}");

    private static string Hex(PhysicalAddress address) => $"0x{address.Value:x}";

    private static string Hex(LogicalAddress address) => $"0x{address.Value:x}";

    private static string Name(DmaAccess access) => access switch
    {
        DmaAccess.Read => "r",
        DmaAccess.Write => "w",
        _ => "rw",
    };

    private static string Name(WalkStatus status) => status switch
    {
        WalkStatus.NotPresent => "not-present",
        WalkStatus.ReservedBits => "reserved-bits",
        WalkStatus.BadPointer => "bad-pointer",
        WalkStatus.OutOfRange => "out-of-range",
        _ => throw new ArgumentOutOfRangeException(nameof(status)),
    };

    private static string Name(TableProblem problem) => problem switch
    {
        TableProblem.ReservedBits => "reserved-bits",
        TableProblem.BadPointer => "bad-pointer",
        TableProblem.Loop => "loop",
        TableProblem.Truncated => "truncated",
        _ => throw new ArgumentOutOfRangeException(nameof(problem)),
    };
}
