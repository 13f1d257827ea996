using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>What a listing merges, what it calls damage, and where exactly it stops.</summary>
public sealed class ListTests
{
    private const DmaAccess RW = DmaAccess.ReadWrite;

    [Fact]
    public void RangesMergeOnlyWhereLogicalPhysicalAndRightsAllGoOn()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        (ulong Logical, ulong Physical, DmaAccess Access)[] pages =
        [
            (0x1000, 0x11000, RW), (0x2000, 0x12000, RW), // merge
            (0x3000, 0x13000, DmaAccess.Read), // other rights
            (0x4000, 0x24000, DmaAccess.Read), // other place
            (0x6000, 0x25000, DmaAccess.Read), // a hole, although the place goes on
            (0x7000, 0x24000, DmaAccess.Read), // the place goes back
        ];
        foreach ((ulong logical, ulong physical, DmaAccess access) in pages)
        {
            Assert.True(table.Map(LogicalRange.FromLength(new(logical), 0x1000), new(physical), access).IsDone);
        }
        Assert.Equal(
            [
                new(LogicalRange.FromLength(new(0x1000), 0x2000), new(0x11000), RW),
                new(LogicalRange.FromLength(new(0x3000), 0x1000), new(0x13000), DmaAccess.Read),
                new(LogicalRange.FromLength(new(0x4000), 0x1000), new(0x24000), DmaAccess.Read),
                new(LogicalRange.FromLength(new(0x6000), 0x1000), new(0x25000), DmaAccess.Read),
                new MappedRange(LogicalRange.FromLength(new(0x7000), 0x1000), new(0x24000), DmaAccess.Read),
            ],
            table.List().Ranges);
    }

    // One table read whole is 512 entries; the 513th is one too many.
    [Theory]
    [InlineData(1, true)]
    [InlineData(511, true)]
    [InlineData(512, false)]
    public void EntriesAreReadToTheLimit(long entries, bool isTruncated)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        PageTableListing listing = List(table, new(entries, 100));
        Assert.Empty(listing.Ranges);
        if (!isTruncated) { Assert.Empty(listing.Damage); }
        else
        {
            Assert.Equal(new TableDamage(table.Root.Table, (ulong)entries, 3, TableProblem.Truncated),
                Assert.Single(listing.Damage));
        }
    }

    [Theory]
    [InlineData(3, 3, false)]
    [InlineData(3, 2, true)]
    [InlineData(1, 0, true)]
    public void RangesAreKeptToTheLimit(int pages, int items, bool isTruncated)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        for (int i = 0; i < pages; i++)
        {
            Assert.True(table.Map(LogicalRange.FromLength(new((ulong)i * 0x1000), 0x1000), new((ulong)i * 0x2000),
                RW).IsDone);
        }
        PageTableListing listing = List(table, new(1 << 20, items));
        Assert.Equal(Math.Min(pages, items), listing.Ranges.Count);
        if (!isTruncated) { Assert.Empty(listing.Damage); }
        else
        {
            TableDamage stop = Assert.Single(listing.Damage);
            Assert.Equal(((ulong)items, 0, TableProblem.Truncated), (stop.Index, stop.Level, stop.Problem));
        }
    }

    [Theory]
    [InlineData(3, 3)]
    [InlineData(3, 2)]
    public void DamageIsKeptToTheLimit(int bad, int items)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        for (int i = 0; i < bad; i++) { Put(table, table.Root.Table.Value, (ulong)i, 0xFFFF_0000_0003); }
        PageTableListing listing = List(table, new(1 << 20, items));
        List<TableDamage> expected = [.. Enumerable.Range(0, Math.Min(bad, items)).Select(i =>
            new TableDamage(table.Root.Table, (ulong)i, 3, TableProblem.BadPointer))];
        if (bad > items) { expected.Add(new(table.Root.Table, (ulong)items, 3, TableProblem.Truncated)); }
        Assert.Equal(expected, listing.Damage);
    }

    // A table of 16 KiB of which memory has the first frame.
    [Fact]
    public void ATableThatMemoryEndsInIsABadPointerFromThereOn()
    {
        using MemoryBanks banks = new(new MemoryBank(new(0), NativeBlock.Allocate(0x5000), 0, 0x5000));
        Assert.True(banks.Memory.TryWrite64(new(0), 0x4001));
        Assert.True(banks.Memory.TryWrite64(new(0x4008), 0x000F_FF01_1234_4003));
        PageTableListing listing = PageTable<Dart<DartT8020>>.List(banks.Memory, new(default, 1, 36),
            ListingLimits.Default);
        Assert.Equal(new TableDamage(new(0x4000), 0x200, 0, TableProblem.BadPointer), Assert.Single(listing.Damage));
        Assert.Equal(new MappedRange(LogicalRange.FromLength(new(0x4000), 0x4000), new(0x1_1234_4000), RW),
            Assert.Single(listing.Ranges));
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(5)]
    public void LevelsThatTheFormatDoesNotHaveMapNothing(int topLevel)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        Assert.True(table.Map(LogicalRange.FromLength(new(0), 0x1000), new(0), RW).IsDone);
        PageTableListing listing = PageTable<VtdSecondStage>.List(table.Memory, table.Root with { TopLevel = topLevel },
            ListingLimits.Default);
        Assert.Empty(listing.Ranges);
        Assert.Empty(listing.Damage);
    }

    // Rights are ANDed: what the table entry takes away, no leaf gives back.
    [Fact]
    public void RightsAreThoseOfAllLevels()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        LogicalRange page = LogicalRange.FromLength(new(0), 0x1000);
        Assert.True(table.Map(page, new(0x7000), RW).IsDone);
        Assert.True(table.Memory.TryRead64(table.Root.Table, out ulong top));
        Put(table, table.Root.Table.Value, 0, top & ~2UL);
        Assert.Equal(new MappedRange(page, new(0x7000), DmaAccess.Read), Assert.Single(table.List().Ranges));
        Assert.True(table.ChangeAccess(page, DmaAccess.Write).IsDone);
        Assert.Empty(table.List().Ranges);
        Assert.Empty(table.List().Damage);
    }

    // The leaf's level is skipped over by its table entry; what lies in the skipped levels' other addresses is nothing.
    [Fact]
    public void SkippedLevelsAreListedWhereTheirTableIs()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 4 levels");
        Put(table, 0x20_0000, 3, 0x6000_0000_0020_1201); // level 3 to the leaf table at once
        Put(table, 0x20_1000, 5, 0x6000_0001_2345_6001);
        PageTableListing listing = PageTable<AmdV1>.List(table.Memory, table.Root with { Table = new(0x20_0000) },
            ListingLimits.Default);
        Assert.Empty(listing.Damage);
        LogicalRange page = LogicalRange.FromLength(new((3UL << 39) + 0x5000), 0x1000);
        Assert.Equal(new MappedRange(page, new(0x1_2345_6000), RW), Assert.Single(listing.Ranges));
    }

    private static PageTableListing List(TestedTable table, ListingLimits limits) =>
        PageTable<VtdSecondStage>.List(table.Memory, table.Root, limits);

    private static void Put(TestedTable table, ulong at, ulong index, ulong word) =>
        Assert.True(table.Memory.TryWrite64(new(at + (index * 8)), word));
}
