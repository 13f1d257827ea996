using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>What a split leaves in the tables, word for word.</summary>
public sealed class SplitWordTests
{
    // 16 KiB of AMD in four items: hardware marked two as used and one as written, so all four may be. The page behind
    // is nobody's business.
    [Fact]
    public void ItemsBecomeLeavesThatAllHaveTheMarksOfAny()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 3 levels");
        Assert.True(table.Map(new(new(0x4000), new(0x8FFF)), new(0x1_2345_4000), DmaAccess.ReadWrite).IsDone);
        ulong first = Leaves(table) + (4 * 8);
        Assert.Equal(["6000000123455E01", "6000000123455E01", "6000000123455E01", "6000000123455E01",
            "6000000123458001"], Words(table, first, 5));
        Put(table, first + 8, 0x6000_0001_2345_5E21);
        Put(table, first + 16, 0x6000_0001_2345_5E41);
        Put(table, first + 24, 0x6000_0001_2345_5E21);
        Assert.Equal(PageTableStatus.Done, table.Split(LogicalRange.FromLength(new(0x5000), 0x1000)));
        Assert.Equal(["6000000123454061", "6000000123455061", "6000000123456061", "6000000123457061",
            "6000000123458001"], Words(table, first, 5));
    }

    [Fact]
    public void ItemsWithoutMarksStayWithoutThem()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 3 levels");
        Assert.True(table.Map(new(new(0x4000), new(0x8FFF)), new(0x1_2345_4000), DmaAccess.Write).IsDone);
        ulong first = Leaves(table) + (4 * 8);
        Put(table, first + 32, 0x4000_0001_2345_8061); // the page behind, used and written
        Assert.Equal(PageTableStatus.Done, table.Split(LogicalRange.FromLength(new(0x4000), 0x1000)));
        Assert.Equal(["4000000123454001", "4000000123455001", "4000000123456001", "4000000123457001",
            "4000000123458061"], Words(table, first, 5));
    }

    // 256 TiB would fall into leaves of 512 GiB, which the hardware does not have.
    [Fact]
    public void WithoutASmallerLeafNothingIsTakenAndNothingChanges()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 6 levels");
        LogicalRange large = LogicalRange.FromLength(new(0), 1UL << 48);
        Assert.Equal(new(PageTableStatus.Done, 1UL << 48, 1UL << 48), table.Map(large, new(0), DmaAccess.ReadWrite));
        int live = table.Frames.Live;
        Assert.Equal(PageTableStatus.WouldSplit, table.Split(LogicalRange.FromLength(new(0x5000), 0x1000)));
        Assert.Equal(live, table.Frames.Live);
        Assert.Equal(48, table.Walk(new(0x5000)).PageSizeLog2);
        // At its own ends there is nothing to split.
        Assert.Equal(PageTableStatus.Done, table.Split(large));
    }

    // A 2 MiB page of VT-d, written to: 512 pages, all written to.
    [Fact]
    public void ALargeLeafBecomesATableOfLeavesLikeIt()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 3 levels");
        LogicalRange large = LogicalRange.FromLength(new(0), 0x20_0000);
        Assert.True(table.Map(large, new(0x8020_0000), DmaAccess.Write).IsDone);
        ulong entry = Leaves(table, levels: 1);
        Put(table, entry, 0x0000_0000_8020_0B82); // dirty, accessed, snooped
        Assert.Equal(PageTableStatus.Done, table.Split(LogicalRange.FromLength(new(0x1F_F000), 0x1000)));
        Assert.True(table.Memory.TryRead64(new(entry), out ulong link));
        Assert.Equal(3UL, link & 0xFFF);
        Assert.Equal(Enumerable.Range(0, 512).Select(static i => $"{0x8020_0B02 + ((ulong)i << 12):X16}"),
            Words(table, link & ~0xFFFUL, 512));
    }

    // An absent entry leads nowhere, whatever lies at address 0.
    [Fact]
    public void WhereNothingIsMappedThereIsNothingToSplit()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        for (ulong at = 0; at < 0x1000; at += 8) { Put(table, at, 1UL << 62 | 3); }
        Assert.Equal(PageTableStatus.Done, table.Split(LogicalRange.FromLength(new(0x5000), 0x1000)));
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    // Nothing lies behind the space, whatever lies behind its root table.
    [Fact]
    public void AtTheEndOfTheSpaceThereIsNothingToSplit()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        Put(table, table.Root.Table.Value + 0x1000, 1UL << 62 | 3);
        LogicalRange last = new(new(0xFFFF_FFFF_F000), new(0xFFFF_FFFF_FFFF));
        Assert.True(table.Map(last, new(0x5000), DmaAccess.Read).IsDone);
        Assert.Equal(PageTableStatus.Done, table.Split(last));
    }

    [Fact]
    public void ASplitThatMemoryFailsKeepsThePageAndLeaksNoFrame()
    {
        // Most answers are stores into the new table: fewer of those, and all around.
        foreach (int answers in (int[])[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 515, 516, 517, 518, 519, 520, 521, 522, 2000])
        {
            using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
            LogicalRange large = LogicalRange.FromLength(new(0x20_0000), 0x20_0000);
            Assert.True(table.Map(large, new(0x8020_0000), DmaAccess.ReadWrite).IsDone);
            int live = table.Frames.Live;
            FailingMemory memory = new(table.Memory, answers);
            PageTableStatus status = PageTable<VtdSecondStage>.Split(memory, table.Root, table.Frames,
                LogicalRange.FromLength(large.First, 0x1000));
            Assert.Equal(memory.HasFailed ? PageTableStatus.DamagedTables : PageTableStatus.Done, status);
            bool isSplit = table.Walk(large.First).PageSizeLog2 == 12;
            Assert.Equal(isSplit ? live + 1 : live, table.Frames.Live);
            Assert.True(isSplit || memory.HasFailed);
            Assert.Equal(new MappedRange(large, new(0x8020_0000), DmaAccess.ReadWrite),
                Assert.Single(table.List().Ranges));
        }
    }

    /// <summary>Where the first entry of the table so many levels below the root lies.</summary>
    private static ulong Leaves(TestedTable table, int levels = 2)
    {
        ulong at = table.Root.Table.Value;
        for (int level = 0; level < levels; level++)
        {
            Assert.True(table.Memory.TryRead64(new(at), out ulong word));
            at = word & 0x000F_FFFF_FFFF_F000;
        }
        return at;
    }

    private static IEnumerable<string> Words(TestedTable table, ulong first, int count) =>
        Enumerable.Range(0, count).Select(i =>
        {
            Assert.True(table.Memory.TryRead64(new(first + ((ulong)i * 8)), out ulong word));
            return $"{word:X16}";
        });

    private static void Put(TestedTable table, ulong at, ulong word) =>
        Assert.True(table.Memory.TryWrite64(new(at), word));
}
