using System.Diagnostics.CodeAnalysis;

namespace Sluice.Formats.PageTables;

/// <summary>All formats by name. A new one is one line here.</summary>
public static class PageTableFormats
{
    private const int FlatAlignmentLog2 = 12;

    private delegate IPageTableReader? Maker(string name, PageTableOptions options, out string problem);

    private static readonly (string Name, Maker Make)[] All =
    [
        ("vtd-ss", (string n, PageTableOptions o, out string p) => Levels<VtdSecondStage>(n, o, 3, 5, 4, out p)),
        ("x86", (string n, PageTableOptions o, out string p) => Levels<X86>(n, o, 4, 5, 4, out p)),
        ("amdv1", (string n, PageTableOptions o, out string p) => Levels<AmdV1>(n, o, 1, 6, 3, out p)),
        ("riscv-sv39", (string n, PageTableOptions o, out string p) => Levels<RiscV>(n, o, 3, 3, 3, out p)),
        ("riscv-sv48", (string n, PageTableOptions o, out string p) => Levels<RiscV>(n, o, 4, 4, 4, out p)),
        ("riscv-sv57", (string n, PageTableOptions o, out string p) => Levels<RiscV>(n, o, 5, 5, 5, out p)),
        ("riscv-sv39x4", (string n, PageTableOptions o, out string p) => Levels<RiscV>(n, o, 3, 3, 3, out p,
            inputBits: 41)),
        ("riscv-sv48x4", (string n, PageTableOptions o, out string p) => Levels<RiscV>(n, o, 4, 4, 4, out p,
            inputBits: 50)),
        ("riscv-sv57x4", (string n, PageTableOptions o, out string p) => Levels<RiscV>(n, o, 5, 5, 5, out p,
            inputBits: 59)),
        ("arm-4k", (string n, PageTableOptions o, out string p) => ArmStages<Arm4K>(n, o, out p)),
        ("arm-16k", (string n, PageTableOptions o, out string p) => ArmStages<Arm16K>(n, o, out p)),
        ("arm-64k", (string n, PageTableOptions o, out string p) => ArmStages<Arm64K>(n, o, out p)),
        ("dart-t8020", (string n, PageTableOptions o, out string p) => Levels<Dart<DartT8020>>(n, o, 2, 2, 2, out p)),
        ("dart-t6000", (string n, PageTableOptions o, out string p) => Levels<Dart<DartT6000>>(n, o, 2, 2, 2, out p)),
        ("dart-t8110", (string n, PageTableOptions o, out string p) => Levels<Dart<DartT8110>>(n, o, 2, 3, 2, out p)),
        ("dart-u3", (string n, PageTableOptions o, out string p) => Flat<DartU3>(n, o, out p)),
        ("gart", (string n, PageTableOptions o, out string p) => Flat<Gart>(n, o, out p)),
    ];

    /// <summary>The names, in the order of the documentation.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. All.Select(static format => format.Name)];

    /// <summary>A reader of tables in a format.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="options">Where the tables lie and what shape they have.</param>
    /// <param name="reader">The reader.</param>
    /// <param name="problem">What is wrong with the name or an option, in one line; when found, which options the
    /// format does not take, or empty.</param>
    public static bool TryFind(
        string name, PageTableOptions options, [NotNullWhen(true)] out IPageTableReader? reader, out string problem)
    {
        ArgumentNullException.ThrowIfNull(options);
        foreach ((string known, Maker make) in All)
        {
            if (known == name)
            {
                reader = make(name, options, out problem);
                return reader is not null;
            }
        }
        reader = null;
        problem = $"there is no table format '{name}'; there are {string.Join(' ', Names)}";
        return false;
    }

    private static PageTableReader<TFormat>? Levels<TFormat>(
        string name, PageTableOptions options, int fewest, int most, int usual, out string problem, int inputBits = 0)
        where TFormat : struct, IPageTableFormat<TFormat>
    {
        int levels = options.Levels ?? usual;
        if (levels < fewest || levels > most)
        {
            string allowed = fewest == most ? $"{fewest}" : $"{fewest} to {most}";
            problem = $"{name} tables have {allowed} levels, not {levels}";
            return null;
        }
        return Make<TFormat>(name, options, new(options.Root, levels - 1) { InputBits = inputBits }, out problem,
            Without(options, levels: true));
    }

    private static IPageTableReader? ArmStages<TGranule>(string name, PageTableOptions options, out string problem)
        where TGranule : struct, IArmGranule
    {
        int bits = options.InputBits ?? 48;
        int most = TGranule.Log2 == 16 ? 52 : 48;
        if (options.Stage is not (1 or 2)) { problem = $"a stage is 1 or 2, not {options.Stage}"; }
        else if (bits < 25 || bits > most)
        {
            problem = $"{name} tables translate 25 to {most} bits of address, not {bits}";
        }
        else
        {
            string unused = Without(options, arm: true);
            return options.Stage == 1
                ? Make<Arm<TGranule, ArmStage1>>(name, options, Arm<TGranule, ArmStage1>.Shape(bits), out problem, unused)
                : Make<Arm<TGranule, ArmStage2>>(name, options, Arm<TGranule, ArmStage2>.Shape(bits), out problem, unused);
        }
        return null;
    }

    private static PageTableReader<TFormat>? Flat<TFormat>(string name, PageTableOptions options, out string problem)
        where TFormat : struct, IPageTableFormat<TFormat>
    {
        if (options.Entries is not { } entries || entries == 0 || entries > 1UL << 32)
        {
            problem = options.Entries is null
                ? $"{name} needs the number of entries"
                : $"{name} cannot have {options.Entries} entries";
            return null;
        }
        if (!options.Aperture.IsAligned(TFormat.GranuleLog2))
        {
            problem = $"a {name} aperture begins at a multiple of {1UL << TFormat.GranuleLog2} bytes, not at "
                + $"{options.Aperture}";
            return null;
        }
        if ((entries << TFormat.GranuleLog2) - 1 > ulong.MaxValue - options.Aperture.Value)
        {
            problem = $"an aperture of {entries} pages at {options.Aperture} ends beyond 2^64";
            return null;
        }
        return Make<TFormat>(name, options, new(options.Root, 0) { Entries = entries, Base = options.Aperture },
            out problem, Without(options, flat: true));
    }

    private static PageTableReader<TFormat>? Make<TFormat>(string name, PageTableOptions options, PageTableRoot root,
        out string problem, string unused)
        where TFormat : struct, IPageTableFormat<TFormat>
    {
        int bits = options.PhysicalAddressBits ?? TFormat.PhysicalAddressBits;
        if (bits < 32 || bits > 63)
        {
            problem = $"physical addresses have 32 to 63 bits, not {bits}";
            return null;
        }
        // The low bits of a pointer to a table are flags, or nothing that hardware looks at: an address with some of
        // them set is no table's, and would be read as one table by a walk and as another by a listing.
        int alignment = TFormat.IsFlat ? FlatAlignmentLog2 : PageTable<TFormat>.RootSizeLog2(root);
        if (!options.Root.IsAligned(alignment))
        {
            problem = $"no {name} table can lie at {options.Root}: this one lies at a multiple of {1UL << alignment} "
                + "bytes; are the low bits flags?";
            return null;
        }
        problem = unused.Length == 0 ? "" : $"{name} tables have {unused}: not used";
        return new(name, root with { Table = options.Root, PhysicalAddressBits = bits,
            Privileged = options.Privileged });
    }

    // What was given and says nothing about such a format.
    private static string Without(
        PageTableOptions options, bool levels = false, bool arm = false, bool flat = false)
    {
        List<string> unused = [];
        if (!levels && options.Levels is not null) { unused.Add("no choice of levels"); }
        if (!arm && options.Stage != 1) { unused.Add("no stages"); }
        if (!arm && options.InputBits is not null) { unused.Add("no choice of input bits"); }
        if (!flat && options.Entries is not null) { unused.Add("no choice of entries"); }
        if (!flat && options.Aperture != default) { unused.Add("no aperture"); }
        return string.Join(" and ", unused);
    }
}
