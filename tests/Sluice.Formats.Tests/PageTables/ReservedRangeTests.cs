using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>Tables made beforehand: mapping then takes no frame, and unmapping gives none up.</summary>
public sealed class ReservedRangeTests
{
    public static TheoryData<string> Formats => TestedFormats.Names;

    [Theory]
    [MemberData(nameof(Formats))]
    public void APreparedRangeIsMappedAndUnmappedWithoutAFrame(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        Random random = new(format.Length);
        ulong page = 1UL << table.GranuleLog2;
        ulong space = (table.Spaces[^1].LengthMinusOne >> table.GranuleLog2) + 1;
        // To the very end of the space, over several tables, from inside the first of them.
        int count = (int)Math.Min((ulong)table.TableEntries * 2 + 3, space);
        LogicalRange range = new(table.Spaces[^1].Last - ((ulong)count * page - 1), table.Spaces[^1].Last);
        Assert.Equal(PageTableStatus.Done, table.Prepare(range));
        Assert.Empty(table.List().Ranges);
        int frames = table.Frames.Live;
        table.Frames.Budget = 0;
        var model = new ulong[count];
        for (int turn = 0; turn < 200; turn++)
        {
            int first = random.Next(count), pages = 1 + random.Next(turn % 4 == 0 ? count - first : Math.Min(9, count - first));
            LogicalRange piece = LogicalRange.FromLength(range.First + (ulong)first * page, (ulong)pages * page);
            if (model.AsSpan(first, pages).ContainsAnyExcept(0UL))
            {
                ulong mapped = (ulong)model.AsSpan(first, pages).ToArray().Count(static p => p != 0);
                Assert.Equal(mapped * page, table.UnmapLeaves(piece).Bytes);
                model.AsSpan(first, pages).Clear();
            }
            else
            {
                PhysicalAddress[] scattered = [.. Enumerable.Range(0, pages).Select(
                    _ => new PhysicalAddress((ulong)random.Next(1, 4000) * page))];
                Assert.Equal(new(PageTableStatus.Done, (ulong)pages * page),
                    table.MapPages(piece.First, scattered, DmaAccess.ReadWrite) with { PageSizes = 0 });
                for (int i = 0; i < pages; i++) { model[first + i] = scattered[i].Value; }
            }
            for (int probe = 0; probe < 5; probe++)
            {
                int at = random.Next(count);
                Translation found = table.Walk(range.First + (ulong)at * page);
                Assert.Equal(model[at] != 0, found.Status == WalkStatus.Mapped);
                if (model[at] != 0) { Assert.Equal(model[at], found.Address.Value); }
            }
        }
        Assert.Equal(frames, table.Frames.Live);
        Assert.True(table.UnmapLeaves(range).IsDone);
        Assert.Empty(table.List().Ranges);
        Assert.Equal(new(PageTableStatus.Done, 0), table.UnmapLeaves(range) with { PageSizes = 0 });
        Assert.True(table.UnmapAndFree(table.Spaces[^1]).IsDone);
        Assert.Equal(table.RootFrames, table.Frames.Live);
        // Nothing stands there now: passed over.
        Assert.Equal(new(PageTableStatus.Done, 0), table.UnmapLeaves(range));
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void WhatCannotBePreparedIsRefused(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        LogicalRange first = LogicalRange.FromLength(table.Spaces[0].First, page * 4);
        Assert.Equal(PageTableStatus.Misaligned, table.Prepare(new(first.First, new(first.Last.Value - 1))));
        Assert.Equal(PageTableStatus.Misaligned, table.UnmapLeaves(new(first.First + 1, first.Last)).Status);
        if (table.Spaces[0].Last.Value + 1 != 0)
        {
            LogicalRange beyond = new(table.Spaces[0].Last - (page - 1), table.Spaces[0].Last + page);
            Assert.Equal(PageTableStatus.OutOfRange, table.Prepare(beyond));
            Assert.Equal(PageTableStatus.OutOfRange, table.UnmapLeaves(beyond).Status);
        }
        int large = table.PageSizes == page ? 0 : System.Numerics.BitOperations.Log2(table.PageSizes);
        if (large >= table.GranuleLog2 + System.Numerics.BitOperations.Log2((uint)table.TableEntries))
        {
            LogicalRange big = LogicalRange.FromLength(table.Spaces[0].First, 1UL << large);
            Assert.True(table.Map(big, default, DmaAccess.ReadWrite).IsDone);
            Assert.Equal(PageTableStatus.AlreadyMapped, table.Prepare(first));
            Assert.Equal(PageTableStatus.WouldSplit, table.UnmapLeaves(first).Status);
            Assert.Equal(1UL << large, table.UnmapAndFree(big).Bytes);
        }
        table.Frames.Budget = 0;
        bool flat = table.Frames.Live == table.RootFrames && table.Prepare(first) == PageTableStatus.Done;
        if (!flat) { Assert.Equal(PageTableStatus.NoFrames, table.Prepare(first)); }
    }
}
