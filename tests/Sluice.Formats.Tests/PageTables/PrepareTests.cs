using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>Tables added ahead of their leaves, and leaves that go without their tables.</summary>
public sealed class PrepareTests
{
    public static TheoryData<string> Formats =>
        ["vtd-ss, 4 levels", "amdv1, 3 levels", "riscv-sv39x4", "arm-16k, stage 1, 48 bits", "dart-t8020", "gart"];

    [Theory]
    [MemberData(nameof(Formats))]
    public void APreparedRangeIsMappedAgainAndAgainWithoutAFrame(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        int log2 = table.GranuleLog2;
        ulong page = 1UL << log2;
        // Across the ends of two tables of leaves.
        int entries = format == "gart" ? 1000 : table.TableEntries;
        LogicalRange range = LogicalRange.FromLength(table.Spaces[0].First + (ulong)(entries - 2) * page,
            ((ulong)entries + 5) * page);
        Assert.Equal(PageTableStatus.Done, Prepare(format, table, table.Frames, range));
        Assert.Empty(table.List().Ranges);
        int live = table.Frames.Live;
        table.Frames.Budget = 0;
        Assert.Equal(PageTableStatus.Done, Prepare(format, table, table.Frames, range));
        PhysicalAddress[] pages =
            [.. Enumerable.Range(0, entries + 5).Select(i => new PhysicalAddress((ulong)(i * 3) << log2))];
        for (int round = 0; round < 2; round++)
        {
            Assert.True(table.MapPages(range.First, pages, DmaAccess.ReadWrite).IsDone);
            Assert.Equal(new(PageTableStatus.Done, 3 * page, page),
                UnmapLeaves(format, table, LogicalRange.FromLength(range.First + page, 3 * page)));
            Assert.Equal(WalkStatus.Mapped, table.Walk(range.First).Status);
            Assert.Equal(WalkStatus.NotPresent, table.Walk(range.First + (3 * page)).Status);
            Assert.Equal(WalkStatus.Mapped, table.Walk(range.First + (4 * page)).Status);
            Assert.Equal(new(PageTableStatus.Done, range.Length - (3 * page), page), UnmapLeaves(format, table, range));
            Assert.Equal(new(PageTableStatus.Done, 0), UnmapLeaves(format, table, range));
            Assert.Empty(table.List().Ranges);
            Assert.Equal(live, table.Frames.Live);
        }
        Assert.True(table.UnmapAndFree(table.Spaces[0]).IsDone);
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void WhatIsNotWholePagesOfTheSpaceIsRefused(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        LogicalRange space = table.Spaces[0];
        (LogicalRange Range, PageTableStatus Status)[] wrong =
        [
            (new(space.First + 1, space.First + (page - 1)), PageTableStatus.Misaligned),
            (new(space.First, space.First + page), PageTableStatus.Misaligned),
            (new(space.Last - (page - 1), space.Last + page), PageTableStatus.OutOfRange),
        ];
        foreach ((LogicalRange range, PageTableStatus status) in wrong)
        {
            Assert.Equal(status, Prepare(format, table, table.Frames, range));
            Assert.Equal(new(status, 0), UnmapLeaves(format, table, range));
        }
        LogicalRange last = new(space.Last - (page - 1), space.Last);
        Assert.Equal(PageTableStatus.Done, Prepare(format, table, table.Frames, last));
        Assert.Equal(new(PageTableStatus.Done, 0), UnmapLeaves(format, table, last));
        if (format == "gart") { return; }
        Assert.True(table.Frames.Live > table.RootFrames);
        table.Frames.Budget = 0;
        Assert.Equal(PageTableStatus.NoFrames, Prepare(format, table, table.Frames,
            LogicalRange.FromLength(space.First, page)));
    }

    // 2 MiB and its neighbours; then the same with holes above the leaves' tables.
    [Fact]
    public void LeavesOfOtherSizesAreNotItsBusiness()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        LogicalRange range = new(new(0x1F_E000), new(0x40_0FFF));
        Assert.True(table.Map(range, new(0x801F_E000), DmaAccess.ReadWrite).IsDone);
        Assert.Equal(PageTableStatus.AlreadyMapped, Prepare("vtd-ss", table, table.Frames, range));
        Assert.Equal(new(PageTableStatus.WouldSplit, 0x2000, 0x1000), UnmapLeaves("vtd-ss", table, range));
        Assert.Equal(WalkStatus.Mapped, table.Walk(new(0x20_0000)).Status);
        Assert.Equal(WalkStatus.Mapped, table.Walk(new(0x40_0000)).Status);
        Assert.True(table.UnmapAndFree(LogicalRange.FromLength(new(0x20_0000), 0x20_0000)).IsDone);
        Assert.Equal(new(PageTableStatus.Done, 0x1000, 0x1000), UnmapLeaves("vtd-ss", table, range));

        ulong[] far = [0x7000, 0x4000_0000, 0x80_0000_1000, 0xFFFF_FFFF_F000];
        foreach (ulong at in far)
        {
            Assert.True(table.Map(LogicalRange.FromLength(new(at), 0x1000), new(0x5000), DmaAccess.Read).IsDone);
        }
        Assert.Equal(new(PageTableStatus.Done, 0x2000, 0x1000), UnmapLeaves("vtd-ss", table,
            new(new(0x8000), new(0xFF_FFFF_FFFF))));
        Assert.Equal(WalkStatus.Mapped, table.Walk(new(far[0])).Status);
        Assert.Equal(WalkStatus.Mapped, table.Walk(new(far[3])).Status);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void DamageAboveTheLeavesIsTold(int depth)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        LogicalRange page = LogicalRange.FromLength(new(0), 0x1000);
        Assert.True(table.Map(page, new(0x5000), DmaAccess.Read).IsDone);
        PhysicalAddress entry = table.Root.Table;
        ulong word = 0;
        for (int level = 0; level <= depth; level++)
        {
            entry = level == 0 ? entry : new(word & 0x000F_FFFF_FFFF_F000);
            Assert.True(table.Memory.TryRead64(entry, out word));
        }
        Assert.True(table.Memory.TryWrite64(entry, word | 1UL << 62));
        Assert.Equal(PageTableStatus.DamagedTables, Prepare("vtd-ss", table, table.Frames, page));
        Assert.Equal(new(PageTableStatus.DamagedTables, 0), UnmapLeaves("vtd-ss", table, page));
        Assert.True(table.Memory.TryWrite64(entry, word));
        for (int answers = 0; answers < 4; answers++)
        {
            Assert.Equal(PageTableStatus.DamagedTables, PageTable<VtdSecondStage>.UnmapLeaves(
                new FailingMemory(table.Memory, answers), table.Root, page).Status);
        }
        Assert.Equal(new(PageTableStatus.Done, 0x1000, 0x1000), UnmapLeaves("vtd-ss", table, page));
    }

    // AMD's skipped level: the table of leaves translates the first 2 MiB of what its entry spans, and no more.
    [Fact]
    public void AddressesOfASkippedLevelAreNoLeaves()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 3 levels");
        PhysicalAddress leaves = new(0x20_0000);
        Assert.True(table.Memory.TryWrite64(table.Root.Table, 0x6000_0000_0020_0201));
        Assert.True(table.Memory.TryWrite64(leaves + 8, 0x6000_0001_2345_6001));
        Assert.Equal(new(PageTableStatus.DamagedTables, 0), UnmapLeaves("amdv1", table,
            LogicalRange.FromLength(new(0x20_1000), 0x1000)));
        Assert.Equal(new(PageTableStatus.Done, 0x1000, 0x1000), UnmapLeaves("amdv1", table,
            LogicalRange.FromLength(new(0x1000), 0x1000)));
    }

    private static PageTableStatus Prepare(string format, TestedTable table, IFrameAllocator frames,
        LogicalRange range) =>
        format.Split(' ', ',')[0] switch
        {
            "vtd-ss" => PageTable<VtdSecondStage>.Prepare(table.Memory, table.Root, frames, range),
            "amdv1" => PageTable<AmdV1>.Prepare(table.Memory, table.Root, frames, range),
            "riscv-sv39x4" => PageTable<RiscV>.Prepare(table.Memory, table.Root, frames, range),
            "arm-16k" => PageTable<Arm<Arm16K, ArmStage1>>.Prepare(table.Memory, table.Root, frames, range),
            "dart-t8020" => PageTable<Dart<DartT8020>>.Prepare(table.Memory, table.Root, frames, range),
            _ => PageTable<Gart>.Prepare(table.Memory, table.Root, frames, range),
        };

    private static PageTableChange UnmapLeaves(string format, TestedTable table, LogicalRange range) =>
        format.Split(' ', ',')[0] switch
        {
            "vtd-ss" => PageTable<VtdSecondStage>.UnmapLeaves(table.Memory, table.Root, range),
            "amdv1" => PageTable<AmdV1>.UnmapLeaves(table.Memory, table.Root, range),
            "riscv-sv39x4" => PageTable<RiscV>.UnmapLeaves(table.Memory, table.Root, range),
            "arm-16k" => PageTable<Arm<Arm16K, ArmStage1>>.UnmapLeaves(table.Memory, table.Root, range),
            "dart-t8020" => PageTable<Dart<DartT8020>>.UnmapLeaves(table.Memory, table.Root, range),
            _ => PageTable<Gart>.UnmapLeaves(table.Memory, table.Root, range),
        };
}
