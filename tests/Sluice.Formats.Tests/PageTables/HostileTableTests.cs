using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Tables of any bits: never an exception, never unbounded work, and where the walk finds a page the naive decoder
/// finds the same.
/// </summary>
public sealed class HostileTableTests
{
    public static TheoryData<string> Formats => TestedFormats.Names;

    // Seen failing: rights of the last level only; a skipped level's address bits not looked at.
    [Theory]
    [MemberData(nameof(Formats))]
    public void RandomWordsAsTablesNeitherThrowNorHangAndDecodeLikeTheNaiveWalk(string format)
    {
        int mapped = 0;
        for (int round = 0; round < Effort.Rounds; round++) { mapped += RandomWords(format, seed: 11 + round); }
        Assert.True(mapped > 20 || Effort.Rounds == 0, $"only {mapped} addresses were mapped: the words are not plausible enough");
    }

    private static int RandomWords(string format, int seed)
    {
        using TestedTable table = TestedFormats.Create(format);
        Random random = new(seed);
        const ulong Tables = 75;
        ulong first = table.Root.Table.AlignDown(16).Value;
        byte[] bytes = new byte[Tables * 4096];
        Span<ulong> words = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan());
        for (int i = 0; i < words.Length; i++) { words[i] = table.HostileWord(random, first, Tables); }
        Assert.True(table.Memory.TryWrite(new(first), bytes));

        int mapped = 0;
        for (int i = 0; i < 12_000; i++)
        {
            LogicalRange space = table.Spaces[random.Next(table.Spaces.Count)];
            LogicalAddress address = space.First + ((ulong)random.NextInt64(long.MinValue,
                long.MaxValue) & space.LengthMinusOne);
            if (!space.Contains(address)) { continue; }
            Translation walked = table.Walk(address);
            NaiveAnswer naive = table.NaiveWalk(address);
            if (walked.Status == WalkStatus.Mapped)
            {
                mapped++;
                Assert.Equal(naive, new(walked.Address.Value, walked.Access, walked.PageSizeLog2));
            }
            else if (walked.Status == WalkStatus.NotPresent) { Assert.Null(naive.Physical); }
            else { Assert.NotEqual(WalkStatus.OutOfRange, walked.Status); }
        }

        PageTableListing listing = table.List();
        Assert.True(listing.Ranges.Count <= 1 << 15 && listing.Damage.Count <= (1 << 15) + 1);
        Mutate(table, random);
        return mapped;
    }

    /// <summary>
    /// What changes tables must bear any tables too. Frames that the tables claim are not the allocator's, so nothing
    /// is freed.
    /// </summary>
    private static void Mutate(TestedTable table, Random random)
    {
        for (int i = 0; i < 300; i++)
        {
            LogicalRange space = table.Spaces[0];
            ulong page = 1UL << table.GranuleLog2;
            ulong length = page * (ulong)random.Next(1, 3000);
            ulong offset = (ulong)random.NextInt64() & space.LengthMinusOne;
            LogicalAddress first = (space.First + offset).AlignDown(table.GranuleLog2);
            if (!space.Contains(first) || space.Last - first < length - 1) { continue; }
            LogicalRange range = LogicalRange.FromLength(first, length);
            TableGather gather = default;
            PageTableStatus status = random.Next(5) switch
            {
                0 => table.Map(range, new(page * 5), DmaAccess.ReadWrite).Status,
                1 => table.Unmap(range, ref gather).Status,
                2 => table.UnmapSplitting(range, ref gather).Status,
                3 => table.ChangeAccessSplitting(range, DmaAccess.Read).Status,
                _ => table.ChangeAccess(range, DmaAccess.Read).Status,
            };
            Assert.True(Enum.IsDefined(status));
        }
    }

    // Seen failing: no check against the tables above, so that the listing only ended at its limit.
    [Fact]
    public void ALoopIsDamageAndASharedTableIsNot()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        Put(table, 0x20_0000, 0, 0x20_1003);
        Put(table, 0x20_0000, 1, 0x20_1003);
        Put(table, 0x20_0000, 2, 0x20_0003);
        Put(table, 0x20_1000, 0, 0x20_2003);
        Put(table, 0x20_1000, 5, 0x20_1003);
        Put(table, 0x20_2000, 0, 0x8000_0083);
        Put(table, 0x20_2000, 1, 0x8000_1083);
        Put(table, 0x20_2000, 2, 0xFFFF_0000_0003);
        Assert.True(PageTableFormats.TryFind("vtd-ss", new() { Root = new(0x20_0000) }, out IPageTableReader? reader,
            out _));
        PageTableListing listing = reader.List(table.Memory, ListingLimits.Default);
        Assert.Equal(
            [
                new(LogicalRange.FromLength(new(0), 0x20_0000), new(0x8000_0000), DmaAccess.ReadWrite),
                new MappedRange(LogicalRange.FromLength(new(1UL << 39), 0x20_0000), new(0x8000_0000),
                    DmaAccess.ReadWrite),
            ],
            listing.Ranges);
        Assert.Equal(
            [
                new(new(0x20_2000), 1, 1, TableProblem.ReservedBits), new(new(0x20_2000), 2, 1,
                    TableProblem.BadPointer),
                new(new(0x20_1000), 5, 2, TableProblem.Loop),
                new(new(0x20_2000), 1, 1, TableProblem.ReservedBits), new(new(0x20_2000), 2, 1,
                    TableProblem.BadPointer),
                new(new(0x20_1000), 5, 2, TableProblem.Loop),
                new TableDamage(new(0x20_0000), 2, 3, TableProblem.Loop),
            ],
            listing.Damage);
        Assert.Equal(WalkStatus.BadPointer, reader.Translate(table.Memory, new(2UL << 39)).Status);
        Assert.Equal(WalkStatus.BadPointer, reader.Translate(table.Memory, new(5UL << 30)).Status);
        Assert.Equal(WalkStatus.BadPointer, reader.Translate(table.Memory, new(2UL << 21)).Status);
        Assert.Equal(WalkStatus.ReservedBits, reader.Translate(table.Memory, new(1UL << 21)).Status);
        Assert.Equal(0x8000_0123UL, reader.Translate(table.Memory, new((1UL << 39) + 0x123)).Address.Value);
    }

    [Fact]
    public void TablesThatShareEverythingAreListedOnlyToTheLimit()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        for (ulong level = 0; level < 4; level++)
        {
            for (ulong i = 0; i < 512; i++)
            {
                Put(table, 0x20_0000 + (level * 0x1000), i, level == 3 ? i * 0x2003 + 3 : 0x20_1003 + (level * 0x1000));
            }
        }
        Assert.True(PageTableFormats.TryFind("vtd-ss", new() { Root = new(0x20_0000) }, out IPageTableReader? reader,
            out _));
        PageTableListing listing = reader.List(table.Memory, new(1_000_000, 1000));
        Assert.Equal(1000, listing.Ranges.Count);
        Assert.Equal(TableProblem.Truncated, Assert.Single(listing.Damage).Problem);
        Assert.Equal(TableProblem.Truncated, Assert.Single(reader.List(table.Memory, new(1000,
            1_000_000)).Damage).Problem);
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void ATableOutsideMemoryIsABadPointer(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        table.MoveRoot(new(TestedTable.MemoryBytes));
        Assert.Equal(WalkStatus.BadPointer, table.Walk(table.Spaces[0].First).Status);
        LogicalRange page = LogicalRange.FromLength(table.Spaces[0].First, 1UL << table.GranuleLog2);
        Assert.Equal(PageTableStatus.DamagedTables, table.Map(page, new(0), DmaAccess.Read).Status);
        Assert.Equal(PageTableStatus.DamagedTables, table.UnmapAndFree(page).Status);
        Assert.Equal(new TableDamage(new(TestedTable.MemoryBytes), 0, table.Root.TopLevel, TableProblem.BadPointer),
            Assert.Single(table.List().Damage));
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    private static void Put(TestedTable table, ulong at, ulong index, ulong word) =>
        Assert.True(table.Memory.TryWrite64(new(at + (index * 8)), word));
}
