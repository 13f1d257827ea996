using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Single rules, on every format. The names of Linux's generic_pt kunit cases that each covers are in its comment; the
/// whole list is in <see cref="GenericPtTests"/>.
/// </summary>
public sealed class PageTableRuleTests
{
    public static TheoryData<string> Formats => TestedFormats.Names;

    // kunit: init, max_va, table_radix, check_all_levels.
    [Theory]
    [MemberData(nameof(Formats))]
    public void TheFirstAndTheLastPageOfEverySpaceCanBeMapped(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        foreach (LogicalRange space in table.Spaces)
        {
            foreach (LogicalAddress first in (LogicalAddress[])[space.First, space.Last - (page - 1)])
            {
                LogicalRange range = LogicalRange.FromLength(first, page);
                Assert.True(table.Map(range, new(page * 3), DmaAccess.ReadWrite).IsDone);
                Assert.Equal(page * 3 + page - 1, table.Walk(range.Last).Address.Value);
                Assert.Equal(table.Walk(range.Last).Address.Value, table.NaiveWalk(range.Last).Physical);
            }
            Assert.Equal(WalkStatus.NotPresent, table.Walk(space.First + page).Status);
            if (space.Last.Value != ulong.MaxValue)
            {
                Assert.Equal(WalkStatus.OutOfRange, table.Walk(space.Last + 1).Status);
            }
            if (space.First.Value != 0) { Assert.Equal(WalkStatus.OutOfRange, table.Walk(space.First - 1).Status); }
        }
        Assert.Equal(table.Spaces.Count * 2, table.List().Ranges.Count);
        foreach (LogicalRange space in table.Spaces) { Assert.True(table.UnmapAndFree(space).IsDone); }
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    // Seen failing: VT-d's snoop bit left out of the mask; AMD's rights left out.
    [Theory]
    [MemberData(nameof(Formats))]
    public void WhatPassesAsAPlainTableIsOneByEveryOtherMember(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        Random random = new(21);
        int passed = 0;
        ulong addresses = ((1UL << table.PhysicalBits) - 1) & ~((1UL << table.GranuleLog2) - 1);
        for (int level = 1; level <= table.Root.TopLevel; level++)
        {
            for (int i = 0; i < Effort.Times(2000); i++)
            {
                ulong entry = table.TableEntry(new((ulong)random.NextInt64() & addresses), level);
                if (!format.StartsWith("mock", StringComparison.Ordinal))
                {
                    Assert.True(table.PassesAsTable(entry, level), $"0x{entry:X} is what the format writes");
                }
                for (int bit = 0; bit < 64; bit++) { passed += table.PassesAsTable(entry ^ 1UL << bit, level) ? 1 : 0; }
                passed += table.PassesAsTable(entry ^ (ulong)random.NextInt64() & (ulong)random.NextInt64(), level)
                    ? 1
                    : 0;
            }
        }
        Assert.True(passed > 0 || table.Root.TopLevel == 0 || format.StartsWith("mock", StringComparison.Ordinal));
    }

    // kunit: best_pgsize, pgsz_count, entry_possible_sizes, pgsize_boundary, map_simple. Seen failing: aligning only
    // the logical address.
    [Theory]
    [MemberData(nameof(Formats))]
    public void EveryPageSizeIsUsedWhereItFits(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        for (int size = table.GranuleLog2; size < 48; size++)
        {
            if ((table.PageSizes >> size & 1) == 0 || size >= table.PhysicalBits) { continue; }
            ulong bytes = 1UL << size;
            if (table.Spaces[0].LengthMinusOne < bytes - 1) { continue; }
            LogicalRange range = LogicalRange.FromLength(table.Spaces[0].First, bytes);
            PageTableChange mapped = table.Map(range, new(0), DmaAccess.ReadWrite);
            Assert.Equal(new(PageTableStatus.Done, bytes, bytes), mapped);
            Assert.Equal(size, table.Walk(range.First + (bytes / 2)).PageSizeLog2);
            Assert.Equal(new NaiveAnswer(bytes - 1, DmaAccess.ReadWrite, size), table.NaiveWalk(range.Last));
            // The whole space, so that no table stays in the way of the next size.
            Assert.Equal(new(PageTableStatus.Done, bytes, bytes), table.UnmapAndFree(table.Spaces[0]));
        }
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    // kunit: unmap_split, map overlap. Seen failing: a large page at the range's end cleared whole.
    [Theory]
    [MemberData(nameof(Formats))]
    public void APartOfALargePageIsNeitherUnmappedNorChangedNorMappedOver(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        int size = LargerPage(table);
        if (size == 0) { return; }
        ulong page = 1UL << table.GranuleLog2, bytes = 1UL << size;
        LogicalRange all = LogicalRange.FromLength(table.Spaces[0].First, bytes * 2);
        Assert.True(table.Map(LogicalRange.FromLength(all.First, bytes), new(0), DmaAccess.ReadWrite).IsDone);
        Assert.True(table.Map(LogicalRange.FromLength(all.First + bytes, bytes), new(bytes * 4),
            DmaAccess.ReadWrite).IsDone);
        LogicalRange[] parts =
        [
            LogicalRange.FromLength(all.First, page), LogicalRange.FromLength(all.First + (bytes - page), page),
            LogicalRange.FromLength(all.First, bytes + page), LogicalRange.FromLength(all.First + page,
                bytes * 2 - page),
        ];
        foreach (LogicalRange part in parts)
        {
            Assert.Equal(new(PageTableStatus.WouldSplit, 0), table.UnmapAndFree(part));
            Assert.Equal(new(PageTableStatus.WouldSplit, 0), table.ChangeAccess(part, DmaAccess.Read));
            PageTableChange over = table.Map(part, new(0), DmaAccess.ReadWrite);
            Assert.Equal(new(PageTableStatus.AlreadyMapped, 0), over);
        }
        Assert.Equal(DmaAccess.ReadWrite, table.Walk(all.First).Access);
        Assert.Equal(bytes * 4, table.Walk(all.First + bytes).Address.Value);
        Assert.Equal(bytes * 2, table.UnmapAndFree(all).Bytes);
    }

    // Seen failing: unmapping, and cutting, without a look at either end.
    [Theory]
    [MemberData(nameof(Formats))]
    public void WhatBeginsOrEndsInsideAPageIsNeitherUnmappedNorCut(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        LogicalAddress first = table.Spaces[0].First;
        LogicalRange two = LogicalRange.FromLength(first, page * 2);
        Assert.Equal(page * 2, table.Map(two, new(0), DmaAccess.Read).Bytes);
        int frames = table.Frames.Live;
        LogicalRange[] askew = [new(first + 1, two.Last), new(first, two.Last - 1), new(first + 1, first + page)];
        foreach (LogicalRange range in askew)
        {
            Assert.Equal(new(PageTableStatus.Misaligned, 0), table.UnmapAndFree(range));
            Assert.Equal(new(PageTableStatus.Misaligned, 0), table.UnmapAndFreeSplitting(range));
            Assert.Equal(new(PageTableStatus.Misaligned, 0), table.ChangeAccess(range, DmaAccess.ReadWrite));
            Assert.Equal(PageTableStatus.Misaligned, table.Split(range));
        }
        Assert.Equal(new(PageTableStatus.NoAccess, 0), table.ChangeAccessSplitting(two, DmaAccess.None));
        Assert.Equal(frames, table.Frames.Live);
        Assert.Equal(page * 2, table.UnmapAndFree(two).Bytes);
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void WhatCannotBeMappedIsRefusedBeforeAnythingChanges(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        LogicalAddress first = table.Spaces[0].First;
        LogicalRange one = LogicalRange.FromLength(first, page);
        Assert.Equal(PageTableStatus.Misaligned, table.Map(LogicalRange.FromLength(first + 1, page), new(0),
            DmaAccess.Read).Status);
        Assert.Equal(PageTableStatus.Misaligned, table.Map(LogicalRange.FromLength(first, page - 1), new(0),
            DmaAccess.Read).Status);
        Assert.Equal(PageTableStatus.Misaligned, table.Map(one, new(page / 2), DmaAccess.Read).Status);
        Assert.Equal(PageTableStatus.NoAccess, table.Map(one, new(0), DmaAccess.None).Status);
        Assert.Equal(PageTableStatus.OutOfRange, table.Map(one, new(1UL << table.PhysicalBits), DmaAccess.Read).Status);
        PhysicalAddress last = new((1UL << table.PhysicalBits) - page);
        Assert.Equal(PageTableStatus.OutOfRange, table.Map(LogicalRange.FromLength(first, page * 2), last,
            DmaAccess.Read).Status);
        PhysicalAddress[] scattered = [new(page), new(page), new(page), new(page), new(page),
            new(1UL << table.PhysicalBits)];
        Assert.Equal(PageTableStatus.OutOfRange, table.MapPages(first, scattered, DmaAccess.Read).Status);
        if (table.Spaces[0].Last.Value != ulong.MaxValue)
        {
            LogicalRange beyond = LogicalRange.FromLength(table.Spaces[0].Last - (page - 1), page * 2);
            Assert.Equal(PageTableStatus.OutOfRange, table.Map(beyond, new(0), DmaAccess.Read).Status);
            Assert.Equal(PageTableStatus.OutOfRange, table.UnmapAndFree(beyond).Status);
        }
        if (table.Spaces.Count == 2)
        {
            LogicalRange hole = new(table.Spaces[0].Last - (page - 1), table.Spaces[1].First + (page - 1));
            Assert.Equal(PageTableStatus.OutOfRange, table.Map(hole, new(0), DmaAccess.Read).Status);
        }
        Assert.Equal(table.RootFrames, table.Frames.Live);
        Assert.Empty(table.List().Ranges);
    }

    // Seen failing: the first items of a run not looked at.
    [Theory]
    [MemberData(nameof(Formats))]
    public void AnObstacleLeavesExactlyTheReportedBytesMapped(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        LogicalAddress first = table.Spaces[0].First;
        ulong pages = Math.Min(3000, (table.Spaces[0].LengthMinusOne >> table.GranuleLog2) + 1);
        Random random = new(5);
        for (int round = 0; round < 20; round++)
        {
            LogicalAddress obstacle = first + ((ulong)random.NextInt64((long)pages) * page);
            Assert.True(table.Map(LogicalRange.FromLength(obstacle, page), new(page * 7), DmaAccess.ReadWrite).IsDone);
            LogicalRange range = LogicalRange.FromLength(first, pages * page);
            PageTableChange change = table.Map(range, new(0), DmaAccess.ReadWrite);
            Assert.Equal(PageTableStatus.AlreadyMapped, change.Status);
            Assert.True(change.Bytes <= obstacle - first);
            PageTableListing listing = table.List();
            Assert.Equal(change.Bytes + page, listing.Ranges.Aggregate(0UL, static (sum, r) => sum + r.Logical.Length));
            if (change.Bytes != 0)
            {
                Assert.True(table.UnmapAndFree(LogicalRange.FromLength(first, change.Bytes)).IsDone);
            }
            Assert.Equal(page, table.UnmapAndFree(range).Bytes);
            Assert.Empty(table.List().Ranges);
        }
    }

    // Seen failing: nothing reported although a part was mapped.
    [Theory]
    [MemberData(nameof(Formats))]
    public void WhenFramesRunOutWhatWasMappedIsToldAndCanBeRolledBack(string format)
    {
        for (int budget = 0; budget < 6; budget++)
        {
            using TestedTable table = TestedFormats.Create(format);
            ulong page = 1UL << table.GranuleLog2;
            LogicalAddress first = table.Spaces[0].First;
            ulong pages = Math.Min((ulong)table.TableEntries * 3,
                (table.Spaces[0].LengthMinusOne >> table.GranuleLog2) + 1);
            table.Frames.Budget = budget;
            PhysicalAddress[] scattered = new PhysicalAddress[pages];
            Array.Fill(scattered, new(page));
            PageTableChange change = table.MapPages(first, scattered, DmaAccess.ReadWrite);
            if (change.IsDone) { break; }
            Assert.Equal(PageTableStatus.NoFrames, change.Status);
            Assert.Equal(change.Bytes != 0, table.Walk(first).Status == WalkStatus.Mapped);
            Assert.Equal(WalkStatus.NotPresent, table.Walk(first + change.Bytes).Status);
            if (change.Bytes != 0)
            {
                Assert.Equal(change.Bytes, table.UnmapAndFree(LogicalRange.FromLength(first, change.Bytes)).Bytes);
            }
            Assert.True(table.UnmapAndFree(table.Spaces[0]).IsDone);
            Assert.Equal(table.RootFrames, table.Frames.Live);
        }
    }

    // kunit: map_table_to_oa. A table in the way of a large page: smaller ones are used around it.
    [Theory]
    [MemberData(nameof(Formats))]
    public void AnEmptyTableInTheWayOfALargePageIsFilledInstead(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        int size = LargerPage(table, aboveLevel0: true);
        if (size == 0) { return; }
        ulong page = 1UL << table.GranuleLog2, bytes = 1UL << size;
        LogicalRange all = LogicalRange.FromLength(table.Spaces[0].First, bytes * 4);
        LogicalRange inside = LogicalRange.FromLength(all.First + bytes * 2 + page, page);
        Assert.True(table.Map(inside, new(0), DmaAccess.ReadWrite).IsDone);
        Assert.True(table.UnmapAndFree(inside).IsDone);
        PageTableChange change = table.Map(all, new(0), DmaAccess.ReadWrite);
        Assert.Equal(new(PageTableStatus.Done, bytes * 4), change with { PageSizes = 0 });
        Assert.True(table.Walk(inside.First).PageSizeLog2 < size || table.Walk(all.First).PageSizeLog2 > size);
        Assert.Equal(new MappedRange(all, new(0), DmaAccess.ReadWrite), Assert.Single(table.List().Ranges));
        Assert.Equal(bytes * 4, table.UnmapAndFree(all).Bytes);
    }

    // kunit: dirty.
    [Theory]
    [MemberData(nameof(Formats))]
    public void DirtyPagesAreFoundOnceAndForgotten(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        LogicalRange range = LogicalRange.FromLength(table.Spaces[0].First, page * 200);
        if (!table.RecordsDirty)
        {
            Assert.Throws<NotSupportedException>(() => table.CollectDirty(range, true, new ulong[4]));
            return;
        }
        Assert.Throws<ArgumentException>(() => table.CollectDirty(range, true, new ulong[3]));
        Random random = new(9);
        PhysicalAddress[] pages = new PhysicalAddress[200];
        for (int i = 0; i < pages.Length; i++)
        {
            pages[i] = new(0x1_0000_0000 + (((ulong)i * 2 + 1) << table.GranuleLog2));
        }
        Assert.True(table.MapPages(range.First, pages, DmaAccess.ReadWrite).IsDone);
        ulong[] found = new ulong[4];
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, found));
        for (int round = 0; round < 3; round++)
        {
            ulong[] expected = new ulong[4];
            HashSet<PhysicalAddress> written = [];
            for (int i = 0; i < 30; i++)
            {
                int index = random.Next(200);
                expected[index / 64] |= 1UL << (index % 64);
                written.Add(pages[index]);
            }
            table.SetDirty(written);
            Array.Clear(found);
            Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, false, found));
            Assert.Equal(expected, found);
            // Rights change, dirt stays.
            Assert.True(table.ChangeAccess(range, DmaAccess.ReadWrite).IsDone);
            Array.Clear(found);
            Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, found));
            Assert.Equal(expected, found);
            Array.Clear(found);
            Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, found));
            Assert.Equal(new ulong[4], found);
            Assert.Equal(WalkStatus.Mapped, table.Walk(range.First).Status);
        }
    }

    // kunit: increase_level.
    [Theory]
    [MemberData(nameof(Formats))]
    public void TablesGrowUpwardWhereTheFormatAllowsIt(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        LogicalRange space = table.Spaces[0];
        ulong page = 1UL << table.GranuleLog2;
        LogicalRange last = LogicalRange.FromLength(space.Last - (page - 1), page);
        Assert.True(table.Map(last, new(page * 9), DmaAccess.ReadWrite).IsDone);
        if (!table.Grow())
        {
            Assert.Equal(page * 9, table.Walk(last.First).Address.Value);
            return;
        }
        Assert.Equal(page * 9, table.Walk(last.First).Address.Value);
        LogicalRange beyond = LogicalRange.FromLength(space.Last + 1, page);
        Assert.Equal(WalkStatus.NotPresent, table.Walk(beyond.First).Status);
        Assert.True(table.Map(beyond, new(page * 10), DmaAccess.ReadWrite).IsDone);
        Assert.Equal(new MappedRange(new(last.First, beyond.Last), new(page * 9), DmaAccess.ReadWrite),
            Assert.Single(table.List().Ranges));
    }

    private static int LargerPage(TestedTable table, bool aboveLevel0 = false)
    {
        for (int size = aboveLevel0 ? table.GranuleLog2 + System.Numerics.BitOperations.Log2((uint)table.TableEntries)
            : table.GranuleLog2 + 1;
            size < Math.Min(44, table.PhysicalBits - 4);
            size++)
        {
            if ((table.PageSizes >> size & 1) != 0 && table.Spaces[0].LengthMinusOne >= (4UL << size) - 1)
            {
                return size;
            }
        }
        return 0;
    }
}
