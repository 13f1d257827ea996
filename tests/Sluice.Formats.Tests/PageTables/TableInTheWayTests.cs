using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Where an empty table stands, a large page would need an invalidation first: the next smaller size is used in the
/// table, and told.
/// </summary>
public sealed class TableInTheWayTests
{
    // Columns: format, size of the large page, the largest that fits into the table below it.
    [Theory]
    [InlineData("vtd-ss, 4 levels", 21, 12)]
    [InlineData("vtd-ss, 4 levels", 30, 21)]
    [InlineData("x86, 4 levels", 21, 12)]
    [InlineData("amdv1, 4 levels", 21, 20)]
    [InlineData("amdv1, 4 levels", 30, 29)]
    [InlineData("riscv-sv48", 21, 16)]
    [InlineData("riscv-sv48", 39, 30)]
    [InlineData("arm-4k, stage 1, 48 bits", 21, 16)]
    [InlineData("arm-4k, stage 1, 48 bits", 30, 25)]
    [InlineData("arm-16k, stage 1, 48 bits", 25, 21)]
    [InlineData("arm-64k, stage 1, 48 bits", 29, 21)]
    public void ThePageIsMadeOfTheNextSmaller(string format, int size, int smaller)
    {
        using TestedTable table = TestedFormats.Create(format);
        LogicalRange large = LogicalRange.FromLength(new(1UL << size), 1UL << size);
        // A page of the smaller size leaves its table when it goes, since the range is not the table's whole.
        LogicalRange inside = LogicalRange.FromLength(large.First, 1UL << smaller);
        Assert.Equal(new(PageTableStatus.Done, inside.Length, inside.Length),
            table.Map(inside, new(0), DmaAccess.ReadWrite));
        int live = table.Frames.Live;
        Assert.True(table.UnmapAndFree(inside).IsDone);
        Assert.Equal(live, table.Frames.Live);

        Assert.Equal(new(PageTableStatus.Done, large.Length, 1UL << smaller),
            table.Map(large, new(1UL << size), DmaAccess.ReadWrite));
        Assert.Equal(live, table.Frames.Live);
        foreach (LogicalAddress at in (LogicalAddress[])[large.First, large.First + (large.Length / 2), large.Last])
        {
            Assert.Equal(new(WalkStatus.Mapped, new(at.Value), DmaAccess.ReadWrite, smaller), table.Walk(at));
            Assert.Equal(new NaiveAnswer(at.Value, DmaAccess.ReadWrite, smaller), table.NaiveWalk(at));
        }
        Assert.Equal(new(PageTableStatus.Done, large.Length, 1UL << smaller), table.UnmapAndFree(large));
        // The table went with the whole of its range: the large page fits now.
        Assert.Equal(new(PageTableStatus.Done, large.Length, large.Length),
            table.Map(large, new(1UL << size), DmaAccess.ReadWrite));
    }

    // 4 MiB of AMD are two items; where the second holds a table, 2 MiB and smaller pages do it, and only they are told.
    [Fact]
    public void ATableBehindTheFirstItemHalvesThePage()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 4 levels");
        LogicalRange second = LogicalRange.FromLength(new(0x60_0000), 0x1000);
        Assert.True(table.Map(second, new(0), DmaAccess.ReadWrite).IsDone);
        Assert.True(table.UnmapAndFree(second).IsDone);
        LogicalRange all = LogicalRange.FromLength(new(0x40_0000), 0x40_0000);
        Assert.Equal(new(PageTableStatus.Done, 0x40_0000, 0x30_0000),
            table.Map(all, new(0x40_0000), DmaAccess.ReadWrite));
        Assert.Equal((21, 20), (table.Walk(new(0x40_0000)).PageSizeLog2, table.Walk(new(0x60_0000)).PageSizeLog2));
    }

    // The table of leaves in the place of a table of tables translates its first 2 MiB: there is no way into the rest.
    [Fact]
    public void ASkippedLevelIsNotMappedInto()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 3 levels");
        Assert.True(table.Memory.TryWrite64(table.Root.Table, 0x6000_0000_0020_0201));
        Assert.Equal(new(PageTableStatus.DamagedTables, 0), table.Map(LogicalRange.FromLength(new(0x20_1000), 0x1000),
            new(0x5000), DmaAccess.Read));
        Assert.Equal(new(PageTableStatus.Done, 0x1000, 0x1000), table.Map(LogicalRange.FromLength(new(0x1F_F000), 0x1000),
            new(0x5000), DmaAccess.Read));
        Assert.Equal(0x5123UL, table.Walk(new(0x1F_F123)).Address.Value);
    }
}
