using System.Numerics;
using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// The cases of Linux's generic_pt kunit list, and of io-pgtable-arm's self-test, by their names; all of it:
/// <code>
/// bitops best_pgsize pgsz_count sw_bit mixed arm_lpae_run_tests        here
/// init max_va table_radix check_all_levels pgsize_boundary map_simple
///   entry_possible_sizes unmap_split map_table_to_oa dirty
///   increase_level                                                       PageTableRuleTests, split: SplitTests
/// random_map                                                             PageTablePropertyTests
/// attr_from_entry entry_oa table_ptr                                     GoldenEntryTests, EntryBitTests
/// </code>
/// </summary>
public sealed class GenericPtTests
{
    public static TheoryData<string> Formats => TestedFormats.Names;

    /// <summary>Bits that hardware leaves to software, in a leaf and in a table entry.</summary>
    public static TheoryData<string, int[], int[]> SoftwareBits => new()
    {
        { "vtd-ss, 4 levels", [10, 52, 57, 61, 63], [10, 52, 61, 63] },
        { "x86, 4 levels", [9, 10, 11, 52, 58], [9, 10, 11, 52, 62] },
        { "amdv1, 4 levels", [1, 4, 63], [1, 4, 63] },
        { "riscv-sv48", [8, 9, 59, 60], [8, 9, 59, 60] },
        { "arm-4k, stage 1, 48 bits", [55, 56, 57, 58], [55, 58] },
        { "arm-4k, stage 2, 40 bits", [55, 56, 57, 58], [55, 58] },
    };

    /// <summary>Granule in KiB × input bits × stage, as the self-test has them.</summary>
    public static TheoryData<int, int, int> SelfTests
    {
        get
        {
            TheoryData<int, int, int> rows = [];
            foreach (int granule in (int[])[4, 16, 64])
            {
                foreach (int bits in (int[])[32, 36, 40, 42, 44, 48])
                {
                    rows.Add(granule, bits, 1);
                    rows.Add(granule, bits, 2);
                }
            }
            return rows;
        }
    }

    [Fact]
    public void Bitops()
    {
        // A flat table's size is the only logarithm that is rounded up.
        foreach ((ulong entries, int log2) in ((ulong, int)[])
            [(1, 2), (2, 3), (3, 4), (4, 4), (5, 5), (1UL << 20, 22), ((1UL << 20) + 1, 23), (1UL << 32, 34)])
        {
            Assert.Equal(log2, PageTable<Gart>.RootSizeLog2(new(default, 0) { Entries = entries }));
        }
        // All 64 bits of address: no shift by 64.
        Assert.Equal(64, PageTable<AmdV1>.InputBits(new(default, 5)));
        Assert.Equal(10, PageTable<AmdV1>.RootSizeLog2(new(default, 5)));
    }

    // best_pgsize, pgsz_count. Seen failing: a run that goes on past where a larger page begins to fit.
    [Theory]
    [MemberData(nameof(Formats))]
    public void BestPgsizeAndPgszCount(string format)
    {
        Random random = new(31);
        for (int round = 0; round < Effort.Times(30); round++)
        {
            using TestedTable table = TestedFormats.Create(format);
            LogicalRange space = table.Spaces[random.Next(table.Spaces.Count)];
            int most = BitOperations.Log2(table.PageSizes);
            // Often aligned like the logical address, so that large pages fit; otherwise few pages.
            bool isAlike = random.Next(3) != 0;
            int alike = isAlike ? Math.Min(40, table.PhysicalBits - 2) : table.GranuleLog2;
            int length = Math.Min(random.Next(table.GranuleLog2,
                isAlike ? Math.Min(most + 3, table.GranuleLog2 + 26) : table.GranuleLog2 + 12),
                Math.Min(BitOperations.Log2(space.LengthMinusOne), table.PhysicalBits - 1));
            ulong page = 1UL << table.GranuleLog2;
            ulong bytes = Math.Max(page, ((ulong)random.NextInt64() & ((2UL << length) - 1)) & ~(page - 1));
            bytes = Math.Min(bytes, space.LengthMinusOne / 2 + 1) & ~(page - 1);
            ulong start = (ulong)random.NextInt64() & (space.LengthMinusOne - bytes + 1) & ~(page - 1);
            LogicalRange range = LogicalRange.FromLength(space.First + start, bytes);
            ulong physical = (range.First.OffsetIn(alike) + (random.Next(2) == 0 ? 0 : 1UL << alike))
                & ((1UL << table.PhysicalBits) - 1);
            if (physical + bytes - 1 >= 1UL << table.PhysicalBits) { continue; }
            Assert.True(table.Map(range, new(physical), DmaAccess.ReadWrite).IsDone);
            int leaves = 0;
            for (ulong done = 0; done < bytes && leaves < 3000; leaves++)
            {
                Translation found = table.Walk(range.First + done);
                Assert.Equal(Best(table.PageSizes, range.First.Value + done, physical + done, bytes - done),
                    found.PageSizeLog2);
                done += 1UL << found.PageSizeLog2;
            }
        }
    }

    [Theory]
    [MemberData(nameof(SoftwareBits))]
    public void SwBit(string format, int[] leafBits, int[] tableBits)
    {
        using TestedTable table = TestedFormats.Create(format);
        LogicalRange page = LogicalRange.FromLength(new(0x1234_5000), 1UL << table.GranuleLog2);
        Assert.True(table.Map(page, new(0x8765_4000), DmaAccess.ReadWrite).IsDone);
        Translation clean = table.Walk(page.First);
        foreach ((ulong frame, int size) in table.Frames.Allocated)
        {
            for (ulong at = frame; at < frame + (1UL << size); at += 8)
            {
                Assert.True(table.Memory.TryRead64(new(at), out ulong word));
                if (word == 0) { continue; }
                // The only leaf is the entry that is no table's.
                bool isLeaf = !table.PassesAsTable(word, 1) && !table.PassesAsTable(word, 2)
                    && !table.PassesAsTable(word, 3);
                foreach (int bit in isLeaf ? leafBits : tableBits) { word |= 1UL << bit; }
                Assert.True(table.Memory.TryWrite64(new(at), word));
            }
        }
        Assert.Equal(clean, table.Walk(page.First));
        Assert.Equal(clean.Address.Value, table.NaiveWalk(page.First).Physical);
        Assert.True(table.ChangeAccess(page, DmaAccess.ReadWrite).IsDone);
        LogicalRange next = LogicalRange.FromLength(page.First + page.Length, page.Length);
        Assert.True(table.Map(next, new(0x8765_4000), DmaAccess.ReadWrite).IsDone);
        Assert.Equal(page.Length * 2, table.UnmapAndFree(table.Spaces[0]).Bytes);
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    // A range that begins a page above a boundary of the highest level and ends a page below one: all sizes, up and
    // down again. Seen failing: a root no larger than any other table.
    [Theory]
    [MemberData(nameof(Formats))]
    public void Mixed(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        ulong page = 1UL << table.GranuleLog2;
        int limit = Math.Min(BitOperations.Log2(table.Spaces[0].LengthMinusOne), table.PhysicalBits) - 2;
        int top = limit;
        while (top > table.GranuleLog2 && (table.PageSizes >> top & 1) == 0) { top--; }
        // A flat table or one with a single size: still several tables' worth.
        ulong bytes = top == table.GranuleLog2 ? page * 2000 : 4UL << top;
        if (bytes > table.Spaces[0].LengthMinusOne) { return; }
        LogicalRange range = new(table.Spaces[0].First + page, table.Spaces[0].First + bytes - page - 1);
        PageTableChange change = table.Map(range, new(page), DmaAccess.ReadWrite);
        ulong fits = table.PageSizes & ((2UL << top) - 1);
        Assert.Equal(new(PageTableStatus.Done, range.Length, fits), change);
        Assert.Equal(new MappedRange(range, new(page), DmaAccess.ReadWrite), Assert.Single(table.List().Ranges));
        // A hole inside a large page.
        LogicalRange hole = LogicalRange.FromLength(table.Spaces[0].First + (1UL << Math.Min(top, 37)) + page, page);
        Assert.Equal(page, table.UnmapAndFreeSplitting(hole).Bytes);
        Assert.Equal(2, table.List().Ranges.Count);
        Assert.Equal(new(PageTableStatus.Done, page), table.Map(hole, new(hole.First.Value), DmaAccess.ReadWrite) with
        {
            PageSizes = 0,
        });
        Assert.Equal(range.Length, table.UnmapAndFree(table.Spaces[0]).Bytes);
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    [Theory]
    [MemberData(nameof(SelfTests))]
    public void ArmLpaeRunTests(int granuleKiB, int bits, int stage)
    {
        using TestedTable table = (granuleKiB, stage) switch
        {
            (4, 1) => Tables<Arm4K, ArmStage1>(bits),
            (4, _) => Tables<Arm4K, ArmStage2>(bits),
            (16, 1) => Tables<Arm16K, ArmStage1>(bits),
            (16, _) => Tables<Arm16K, ArmStage2>(bits),
            (_, 1) => Tables<Arm64K, ArmStage1>(bits),
            _ => Tables<Arm64K, ArmStage2>(bits),
        };
        LogicalAddress address = new(42);
        Assert.Equal(WalkStatus.NotPresent, table.Walk(address).Status);

        // One page of each size, side by side; then each again, which must fail.
        int[] sizes = [.. Enumerable.Range(table.GranuleLog2, 31 - table.GranuleLog2)
            .Where(size => (table.PageSizes >> size & 1) != 0)];
        List<LogicalRange> mapped = [];
        ulong at = 0;
        foreach (int size in sizes)
        {
            at = (at + (1UL << size) - 1) >> size << size;
            LogicalRange range = LogicalRange.FromLength(new(at), 1UL << size);
            if (range.Last > table.Spaces[0].Last) { break; }
            Assert.Equal(new(PageTableStatus.Done, range.Length, range.Length),
                table.Map(range, new(at), DmaAccess.ReadWrite));
            Assert.Equal(new(PageTableStatus.AlreadyMapped, 0), table.Map(range, new(at ^ 1UL << 31), DmaAccess.Read));
            Assert.Equal(at + 42, table.Walk(range.First + 42).Address.Value);
            mapped.Add(range);
            at += range.Length;
        }
        foreach (LogicalRange range in mapped)
        {
            Assert.Equal(range.Length, table.UnmapAndFree(range).Bytes);
            Assert.Equal(WalkStatus.NotPresent, table.Walk(range.First + 42).Status);
            Assert.Equal(range.Length, table.Map(range, new(range.First.Value), DmaAccess.Read).Bytes);
            Assert.Equal(DmaAccess.Read, table.Walk(range.First + 42).Access);
        }
        // The last page of the address space.
        ulong page = 1UL << table.GranuleLog2;
        LogicalRange last = LogicalRange.FromLength(table.Spaces[0].Last - (page - 1), page);
        Assert.True(table.Map(last, new(0), DmaAccess.ReadWrite).IsDone);
        Assert.Equal(page - 1, table.Walk(last.Last).Address.Value);
        Assert.Equal(table.Walk(last.Last).Address.Value, table.NaiveWalk(last.Last).Physical);
        Assert.Equal(page, table.UnmapAndFree(last).Bytes);
        Assert.True(table.UnmapAndFree(table.Spaces[0]).IsDone);
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    private static TestedTable<Arm<TGranule, TStage>> Tables<TGranule, TStage>(int bits)
        where TGranule : struct, IArmGranule
        where TStage : struct, IArmStage
    {
        PageTableRoot shape = Arm<TGranule, TStage>.Shape(bits);
        return new(shape)
        {
            Naive = NaiveWalks.Arm((1 << TGranule.Log2) / 1024, TStage.IsSecond ? 2 : 1, 3 - shape.TopLevel, bits),
            Spaces = [new(new(0), new((1UL << bits) - 1))],
        };
    }

    /// <summary>The largest size that both addresses are aligned to and the length holds, by trying all.</summary>
    private static int Best(ulong sizes, ulong logical, ulong physical, ulong length)
    {
        for (int size = 63; size > 0; size--)
        {
            ulong bytes = 1UL << size;
            if ((sizes & bytes) != 0 && length >= bytes && logical % bytes == 0 && physical % bytes == 0)
            {
                return size;
            }
        }
        return 0;
    }
}
