using Sluice.Formats.PageTables;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>A row that can be measured.</summary>
/// <param name="Name">Its name; the created case has the same.</param>
/// <param name="Create">Builds what it needs; disposed after the measurement.</param>
internal sealed record BenchEntry(string Name, Func<BenchCase> Create);

/// <summary>Every row, in the order of the table.</summary>
internal static class BenchCatalog
{
    private static readonly InvalidationPolicy[] Policies =
        [InvalidationPolicy.Strict, InvalidationPolicy.Deferred, InvalidationPolicy.Shadow];
    private static readonly uint[] ListSizes = [4 << 10, 64 << 10, 1 << 20];

    /// <summary>The rows.</summary>
    public static IReadOnlyList<BenchEntry> All { get; } =
    [
        new("translate-hit", static () => new TranslateCase(hits: true)),
        new("translate-miss-4-level", static () => new TranslateCase(hits: false)),
        new("dma-4k", static () => new DmaCase()),
        new("fault", static () => new FaultCase()),
        .. from bytes in ListSizes
           from road in Enum.GetValues<ListRoad>()
           select new BenchEntry(ListCase.NameOf(road, bytes), () => new ListCase(road, bytes)),
        .. Policies.Select(static policy => new BenchEntry(
            ThreadsCase.NameOf(policy), () => new ThreadsCase(policy, Environment.ProcessorCount))),
        new(CopyOrMapCase.RowName, static () => new CopyOrMapCase()),
        .. new[] { false, true }.Select(static guards =>
            new BenchEntry(VerifiedCase.NameOf(guards), () => new VerifiedCase(guards))),
        .. Tables<VtdSecondStage>("vtd-ss"),
        .. Tables<X86>("x86"),
        .. Tables<AmdV1>("amdv1"),
        .. Tables<RiscV>("riscv-sv48"),
        .. Tables<RiscV>("riscv-sv48x4"),
        .. Tables<Arm<Arm4K, ArmStage1>>("arm-4k"),
        .. Tables<Arm<Arm16K, ArmStage1>>("arm-16k"),
        .. Tables<Arm<Arm64K, ArmStage1>>("arm-64k"),
        .. Tables<Dart<DartT8020>>("dart-t8020"),
        .. Tables<Dart<DartT6000>>("dart-t6000"),
        .. Tables<Dart<DartT8110>>("dart-t8110"),
        .. Tables<DartU3>("dart-u3"),
        .. Tables<Gart>("gart"),
        .. Policies.Select(static policy => new BenchEntry(NvmeCase.NameOf(policy), () => new NvmeCase(policy))),
        .. QtestCase.IsPossible
            ? new[] { false, true }.Select(static pinned =>
                new BenchEntry(QtestCase.NameOf(pinned), () => new QtestCase(pinned)))
            : [],
    ];

    private static IEnumerable<BenchEntry> Tables<TFormat>(string format)
        where TFormat : struct, IPageTableFormat<TFormat> =>
        from work in Enum.GetValues<TableWork>()
        select new BenchEntry(TableCase<TFormat>.NameOf(work, format), () => new TableCase<TFormat>(format, work));
}
