using System.Globalization;
using System.Text.Json;
using Sluice.Formats.PageTables;

namespace Sluice.Cli.Walk;

/// <summary>Does what <c>sluice walk</c> promises: translate, or list.</summary>
internal static class WalkJob
{
    private const int Version = 1;

    /// <summary>Walks and prints.</summary>
    /// <returns>The exit status.</returns>
    public static int Execute(WalkOptions options)
    {
        if (!PageTableFormats.TryFind(options.Format, options.Tables, out IPageTableReader? reader, out string problem))
        {
            throw new CommandException(problem);
        }
        if (problem.Length > 0) { Remark(problem); }
        using MemoryImage image = MemoryImage.Open(options.ImagePath, options.Base);
        PhysicalRange held = image.Range;
        if (options.Tables.Root < held.First || options.Tables.Root > held.Last)
        {
            Remark($"the top table at {Hex(options.Tables.Root)} lies outside the image, which holds "
                + $"{Hex(held.First)} to {Hex(held.Last)}; are --root and --base right?");
        }
        return options.Addresses.Count > 0
            ? Translate(options, reader, image.Memory)
            : List(options, reader, image.Memory);
    }

    private static int Translate(WalkOptions options, IPageTableReader reader, PhysicalMemory memory)
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
            Console.WriteLine(JsonSerializer.Serialize(
                new(Version, reader.Format, translations), WalkJson.Default.TranslationDocument));
        }
        else
        {
            foreach (WalkTranslation t in translations)
            {
                Console.WriteLine(t.Fault is null
                    ? $"{t.Logical,-20} → {t.Physical,-20} {t.Access,-3} {ByteSize.Format(t.PageSize!.Value)} page"
                    : $"{t.Logical,-20} ✗ {t.Fault}");
            }
        }
        return damaged ? ExitCode.Damaged : ExitCode.Clean;
    }

    private static int List(WalkOptions options, IPageTableReader reader, PhysicalMemory memory)
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
            Console.WriteLine(JsonSerializer.Serialize(document, WalkJson.Default.ListingDocument));
        }
        else
        {
            Write(listing);
        }
        return listing.Damage.Count > 0 ? ExitCode.Damaged : ExitCode.Clean;
    }

    private static void Write(PageTableListing listing)
    {
        Console.WriteLine($"{"logical",-20} {"last",-20} {"physical",-20} {"access",-7} size");
        double total = 0;
        foreach (MappedRange range in listing.Ranges)
        {
            // The whole 64-bit space has a length that does not fit.
            double bytes = range.Logical.LengthMinusOne + 1.0;
            total += bytes;
            Console.WriteLine(
                $"{Hex(range.Logical.First),-20} {Hex(range.Logical.Last),-20} {Hex(range.Physical),-20} "
                + $"{Name(range.Access),-7} {ByteSize.Format(bytes)}");
        }
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{listing.Ranges.Count} {(listing.Ranges.Count == 1 ? "range" : "ranges")}, "
            + $"{ByteSize.Format(total)} mapped"));
        if (listing.Damage.Count == 0) { return; }
        Console.WriteLine();
        foreach (TableDamage damage in listing.Damage)
        {
            Console.WriteLine(
                $"damaged: entry {damage.Index} of the level {damage.Level} table at {Hex(damage.Table)}: "
                + Name(damage.Problem));
        }
    }

    // What a person should know and a program need not: the answer is as complete as without it.
    private static void Remark(string remark) => Console.Error.WriteLine($"sluice walk: {remark}");

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
