using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>Formats by name, as the command line finds them.</summary>
public sealed class PageTableFormatsTests
{
    public static TheoryData<string> Names => [.. PageTableFormats.Names];

    [Fact]
    public void TheNamesAreTheDocumentedOnes() => Assert.Equal(
        "vtd-ss x86 amdv1 riscv-sv39 riscv-sv48 riscv-sv57 riscv-sv39x4 riscv-sv48x4 riscv-sv57x4 arm-4k "
        + "arm-16k arm-64k dart-t8020 dart-t6000 dart-t8110 dart-u3 gart",
        string.Join(' ', PageTableFormats.Names));

    [Theory]
    [InlineData("vtd-ss", 4, 48, 12)]
    [InlineData("x86", 4, 48, 12)]
    [InlineData("amdv1", 3, 39, 12)]
    [InlineData("riscv-sv39", 3, 39, 12)]
    [InlineData("riscv-sv39x4", 3, 41, 14)]
    [InlineData("riscv-sv57x4", 5, 59, 14)]
    [InlineData("arm-4k", 4, 48, 12)]
    [InlineData("arm-16k", 4, 48, 4)]
    [InlineData("arm-64k", 3, 48, 9)]
    [InlineData("dart-t8020", 2, 36, 14)]
    [InlineData("dart-t8110", 2, 36, 14)]
    public void DefaultShapesAreTheDocumentedOnes(string name, int levels, int bits, int rootSizeLog2)
    {
        IPageTableReader reader = Find(name);
        Assert.Equal(name, reader.Format);
        Assert.Equal(levels - 1, reader.Root.TopLevel);
        (int Bits, int Size) shape = name switch
        {
            "amdv1" => Shape<AmdV1>(reader.Root),
            "arm-4k" => Shape<Arm<Arm4K, ArmStage1>>(reader.Root),
            "arm-16k" => Shape<Arm<Arm16K, ArmStage1>>(reader.Root),
            "arm-64k" => Shape<Arm<Arm64K, ArmStage1>>(reader.Root),
            "dart-t8020" or "dart-t8110" => Shape<Dart<DartT8110>>(reader.Root),
            _ when name.StartsWith("riscv", StringComparison.Ordinal) => Shape<RiscV>(reader.Root),
            _ => Shape<VtdSecondStage>(reader.Root),
        };
        Assert.Equal((bits, rootSizeLog2), shape);
    }

    // The concatenated roots that the architecture prescribes: start level (as Arm counts) and tables side by side.
    [Theory]
    [InlineData("arm-4k", 40, 1, 2)]
    [InlineData("arm-4k", 42, 1, 8)]
    [InlineData("arm-4k", 43, 1, 16)]
    [InlineData("arm-4k", 44, 0, 1)]
    [InlineData("arm-4k", 48, 0, 1)]
    [InlineData("arm-4k", 39, 1, 1)]
    [InlineData("arm-4k", 32, 2, 4)]
    [InlineData("arm-16k", 40, 2, 16)]
    [InlineData("arm-16k", 48, 1, 2)]
    [InlineData("arm-64k", 46, 2, 16)]
    [InlineData("arm-64k", 48, 1, 1)]
    public void StageTwoConcatenatesRootTables(string name, int bits, int startLevel, int tables)
    {
        PageTableRoot root = Find(name, new() { Root = default, Stage = 2, InputBits = bits }).Root;
        int granule = name switch { "arm-4k" => 12, "arm-16k" => 14, _ => 16 };
        Assert.Equal(startLevel, 3 - root.TopLevel);
        int indexed = bits - granule - root.TopLevel * (granule - 3);
        Assert.Equal(tables, 1 << Math.Max(0, indexed - (granule - 3)));
    }

    [Theory]
    [InlineData("vtd", null, null, 1, null)]
    [InlineData("vtd-ss", 2, null, 1, null)]
    [InlineData("vtd-ss", 6, null, 1, null)]
    [InlineData("amdv1", 7, null, 1, null)]
    [InlineData("riscv-sv39", 4, null, 1, null)]
    [InlineData("arm-4k", null, 49, 1, null)]
    [InlineData("arm-4k", null, 24, 1, null)]
    [InlineData("arm-4k", null, null, 3, null)]
    [InlineData("gart", null, null, 1, null)]
    [InlineData("dart-u3", null, null, 1, 0)]
    public void WrongOptionsAreOneClearLine(string name, int? levels, int? inputBits, int stage, int? entries)
    {
        PageTableOptions options = new() { Root = default, Levels = levels, InputBits = inputBits, Stage = stage,
            Entries = (ulong?)entries };
        Assert.False(PageTableFormats.TryFind(name, options, out IPageTableReader? reader, out string problem));
        Assert.Null(reader);
        Assert.NotEmpty(problem);
        Assert.DoesNotContain('\n', problem);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void EveryReaderReadsEmptyTables(string name)
    {
        using MemoryBanks banks = new(new MemoryBank(new(0), NativeBlock.Allocate(0x10_0000), 0, 0x10_0000));
        IPageTableReader reader = Find(name);
        PageTableListing listing = reader.List(banks.Memory, ListingLimits.Default);
        Assert.Empty(listing.Ranges);
        Assert.Empty(listing.Damage);
        Assert.Equal(WalkStatus.NotPresent, reader.Translate(banks.Memory, reader.Root.Base).Status);
        bool reachesTop = reader.Root.InputBits == 0 && (name == "x86"
            || name.StartsWith("riscv", StringComparison.Ordinal));
        Assert.Equal(reachesTop ? WalkStatus.NotPresent : WalkStatus.OutOfRange, reader.Translate(banks.Memory,
            new(ulong.MaxValue)).Status);
    }

    [Fact]
    public void UpperHalfAddressesAreSignExtended()
    {
        using TestedTable table = TestedFormats.Create("x86, 4 levels");
        LogicalRange top = LogicalRange.FromLength(new(0xFFFF_FFFF_FFFF_F000), 0x1000);
        Assert.True(table.Map(top, new(0x7000), DmaAccess.Read).IsDone);
        IPageTableReader reader = Find("x86", new() { Root = table.Root.Table });
        Assert.Equal(new MappedRange(top, new(0x7000), DmaAccess.Read), Assert.Single(reader.List(table.Memory,
            ListingLimits.Default).Ranges));
        Assert.Equal(0x7FFFUL, reader.Translate(table.Memory, top.Last).Address.Value);
        Assert.Equal(WalkStatus.OutOfRange, reader.Translate(table.Memory, new(0x0000_FFFF_FFFF_F000)).Status);
    }

    [Fact]
    public void PrivilegedRequestsReachSupervisorPages()
    {
        using TestedTable table = TestedFormats.Create("x86, 4 levels");
        LogicalRange page = LogicalRange.FromLength(new(0x5000), 0x1000);
        Assert.True(table.Map(page, new(0x7000), DmaAccess.ReadWrite).IsDone);
        table.Memory.TryRead64(table.Root.Table, out ulong entry);
        table.Memory.TryWrite64(table.Root.Table, entry & ~4UL);
        Assert.Equal(WalkStatus.NotPresent, Find("x86", new() { Root = table.Root.Table }).Translate(table.Memory,
            page.First).Status);
        IPageTableReader privileged = Find("x86", new() { Root = table.Root.Table, Privileged = true });
        Assert.Equal(DmaAccess.ReadWrite, privileged.Translate(table.Memory, page.First).Access);
    }

    private static (int, int) Shape<TFormat>(PageTableRoot root)
        where TFormat : struct, IPageTableFormat<TFormat> =>
            (PageTable<TFormat>.InputBits(root), PageTable<TFormat>.RootSizeLog2(root));

    private static IPageTableReader Find(string name, PageTableOptions? options = null)
    {
        options ??= new() { Root = default, Entries = name is "gart" or "dart-u3"
            ? 100 : null, Aperture = new(name == "gart" ? 0xD000_0000UL
            : 0) };
        Assert.True(PageTableFormats.TryFind(name, options, out IPageTableReader? reader, out string problem), problem);
        return reader;
    }
}
