using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Tables that cannot be read or written to the end, or hold reserved bits: a status, nothing lost, no frame leaked.
/// </summary>
public sealed class DamagedTableTests
{
    // 3 pages, a 2 MiB page, 2 pages.
    private static readonly LogicalRange Range = new(new(0x3F_D000), new(0x60_1FFF));

    [Fact]
    public void AMapThatMemoryFailsSaysSoAndLeaksNoFrame()
    {
        int answers = 0;
        for (bool failed = true; failed; answers++)
        {
            using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
            FailingMemory memory = new(table.Memory, answers);
            PageTableChange change = PageTable<VtdSecondStage>.Map(memory, table.Root, table.Frames, Range,
                new(0x801F_D000), DmaAccess.ReadWrite);
            failed = memory.HasFailed;
            Assert.Equal(failed ? PageTableStatus.DamagedTables : PageTableStatus.Done, change.Status);
            Assert.Equal(failed ? Math.Min(change.Bytes, 0x20_3000) : Range.Length, change.Bytes);
            Assert.Equal(change.Bytes != 0, change.PageSizes != 0);
            for (ulong at = 0; at < change.Bytes; at += 0x1000)
            {
                Assert.Equal(0x801F_D000 + at, table.Walk(Range.First + at).Address.Value);
            }
            // What was stored of the run that failed is not told: all of it goes.
            Assert.True(table.UnmapAndFree(table.Spaces[0]).IsDone);
            Assert.Equal(table.RootFrames, table.Frames.Live);
        }
        Assert.InRange(answers, 20, 100);
    }

    [Fact]
    public void AnUnmapThatMemoryFailsSaysSo()
    {
        int answers = 0;
        for (bool failed = true; failed; answers++)
        {
            using TestedTable table = Mapped(out _);
            FailingMemory memory = new(table.Memory, answers);
            TableGather gather = default;
            PageTableChange change = PageTable<VtdSecondStage>.Unmap(memory, table.Root, Range, ref gather);
            failed = memory.HasFailed;
            if (!failed) { Assert.Equal(new(PageTableStatus.Done, Range.Length, 0x20_1000), change); }
            else { Assert.True(change.Bytes < Range.Length || change.Status == PageTableStatus.Done); }
        }
        Assert.InRange(answers, 15, 100);
    }

    [Fact]
    public void AChangeOfRightsThatMemoryFailsSaysSo()
    {
        int answers = 0;
        for (bool failed = true; failed; answers++)
        {
            using TestedTable table = Mapped(out _);
            FailingMemory memory = new(table.Memory, answers);
            PageTableChange change = PageTable<VtdSecondStage>.ChangeAccess(memory, table.Root, Range, DmaAccess.Read);
            failed = memory.HasFailed;
            Assert.Equal(failed ? PageTableStatus.DamagedTables : PageTableStatus.Done, change.Status);
            if (!failed) { Assert.Equal(new(PageTableStatus.Done, Range.Length, 0x20_1000), change); }
        }
        Assert.InRange(answers, 15, 100);
    }

    [Fact]
    public void ACollectionThatMemoryFailsSaysSo()
    {
        int answers = 0;
        for (bool failed = true; failed; answers++)
        {
            using TestedTable table = Mapped(out ulong leaf);
            Turn(table, leaf, 0x200);
            FailingMemory memory = new(table.Memory, answers);
            ulong[] dirty = new ulong[9];
            PageTableStatus status = PageTable<VtdSecondStage>.CollectDirty(memory, table.Root, Range, true, dirty);
            failed = memory.HasFailed;
            Assert.Equal(failed ? PageTableStatus.DamagedTables : PageTableStatus.Done, status);
            if (!failed) { Assert.Equal(0b001UL, dirty[0]); }
        }
        Assert.InRange(answers, 10, 100);
    }

    // Entries of 32 bits are stored, not exchanged: another road to the same answer.
    [Fact]
    public void AFlatTableThatMemoryFailsSaysSo()
    {
        using TestedTable table = TestedFormats.Create("gart");
        LogicalRange pages = LogicalRange.FromLength(table.Spaces[0].First, 0x3000);
        Func<FailingMemory, PageTableStatus>[] changes =
        [
            memory => PageTable<Gart>.Map(memory, table.Root, table.Frames, pages, new(0x7000), DmaAccess.Read).Status,
            memory => PageTable<Gart>.ChangeAccess(memory, table.Root, pages, DmaAccess.Read).Status,
        ];
        foreach (Func<FailingMemory, PageTableStatus> change in changes)
        {
            int answers = 0;
            for (bool failed = true; failed; answers++)
            {
                FailingMemory memory = new(table.Memory, answers);
                PageTableStatus status = change(memory);
                failed = memory.HasFailed;
                // A map that failed may have stored some: away with them.
                if (failed && change == changes[0]) { Assert.True(table.UnmapAndFree(pages).IsDone); }
                Assert.Equal(failed ? PageTableStatus.DamagedTables : PageTableStatus.Done, status);
            }
            Assert.InRange(answers, 7, 10);
        }
    }

    [Fact]
    public void AWalkThatMemoryFailsTellsWhereItWas()
    {
        using TestedTable table = Mapped(out _);
        (int Answers, int Span)[] faults = [(0, 39), (1, 30), (2, 21), (3, 12)];
        foreach ((int answers, int span) in faults)
        {
            FailingMemory memory = new(table.Memory, answers);
            Assert.Equal(new(WalkStatus.BadPointer, default, DmaAccess.ReadWrite, span),
                PageTable<VtdSecondStage>.Walk(memory, table.Root, Range.First));
        }
        Assert.Equal(new(WalkStatus.Mapped, new(0x801F_D123), DmaAccess.ReadWrite, 12),
            PageTable<VtdSecondStage>.Walk(new FailingMemory(table.Memory, 4), table.Root, Range.First + 0x123));
    }

    // Seen in no format of this one's: bit 62 of a table entry at each level, then of a leaf.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void ReservedBitsStopWhateverGoesThroughThem(int depth)
    {
        const ulong Reserved = 1UL << 62;
        using TestedTable table = Mapped(out ulong leaf);
        PhysicalAddress entry = table.Root.Table;
        int[] spans = [39, 30, 21, 12];
        for (int level = 3; level > 3 - depth; level--)
        {
            int shift = 12 + 9 * level;
            Assert.True(table.Memory.TryRead64(entry + ((Range.First.Value >> shift & 511) << 3), out ulong word));
            entry = new(word & 0x000F_FFFF_FFFF_F000);
        }
        ulong at = (entry + ((Range.First.Value >> (12 + 9 * (3 - depth)) & 511) << 3)).Value;
        Assert.Equal(depth == 3, at == leaf);
        Turn(table, at, Reserved);

        Assert.Equal(new(WalkStatus.ReservedBits, default, DmaAccess.ReadWrite, spans[depth]), table.Walk(Range.First));
        Assert.Equal(PageTableStatus.DamagedTables, table.ChangeAccess(Range, DmaAccess.Read).Status);
        Assert.Equal(PageTableStatus.DamagedTables, table.CollectDirty(Range, false, new ulong[9]));
        LogicalRange beside = LogicalRange.FromLength(Range.First - 0x3000, 0x1000);
        Assert.Equal(depth == 3 ? PageTableStatus.Done : PageTableStatus.DamagedTables,
            table.Map(beside, new(0), DmaAccess.Read).Status);
        // The smallest leaf goes, whatever else it says.
        PageTableStatus gone = depth == 3 ? PageTableStatus.Done : PageTableStatus.DamagedTables;
        Assert.Equal(gone, table.UnmapAndFree(LogicalRange.FromLength(Range.First, 0x1000)).Status);
        Assert.Equal(gone, table.UnmapAndFree(Range).Status);
        if (depth == 3) { return; }
        Turn(table, at, Reserved);
        Assert.Equal(new(PageTableStatus.Done, Range.Length, 0x20_1000), table.UnmapAndFree(Range));
    }

    // Present, and of no use to this request: that it is wrong as well comes first.
    [Theory]
    [InlineData("x86, 4 levels", 0x0008_0000_0000_7003UL, WalkStatus.ReservedBits)] // a supervisor's, address bit 51
    [InlineData("x86, 4 levels", 0x0000_0000_0000_7003UL, WalkStatus.NotPresent)]
    [InlineData("amdv1, 4 levels", 0x0000_0000_0000_7601UL, WalkStatus.ReservedBits)] // a table of level 3 in one of 0
    [InlineData("amdv1, 4 levels", 0x0000_0000_0000_7001UL, WalkStatus.NotPresent)]
    [InlineData("amdv1, 4 levels", 0x0000_0000_0000_7600UL, WalkStatus.NotPresent)] // not present at all
    public void AnEntryThatGrantsNothingMayBeWrongToo(string format, ulong word, WalkStatus status)
    {
        using TestedTable table = TestedFormats.Create(format);
        LogicalRange page = LogicalRange.FromLength(new(0x5000), 0x1000);
        Assert.True(table.Map(page, new(0x7000), DmaAccess.ReadWrite).IsDone);
        Assert.True(table.Memory.TryWrite64(new(Entry(table, 0x5000, 0)), word));
        PageTableRoot root = table.Root with { PhysicalAddressBits = 46 };
        Assert.Equal(new(status, default, DmaAccess.None, 12), format[0] == 'x'
            ? PageTable<X86>.Walk(table.Memory, root, page.First)
            : PageTable<AmdV1>.Walk(table.Memory, root, page.First));
    }

    [Fact]
    public void ALargeLeafWithReservedBitsIsNotCleared()
    {
        using TestedTable table = Mapped(out _);
        ulong large = Entry(table, 0x40_0000, 1);
        Turn(table, large, 1UL << 62);
        LogicalRange page = LogicalRange.FromLength(new(0x40_0000), 0x20_0000);
        Assert.Equal(new(PageTableStatus.DamagedTables, 0), table.UnmapAndFree(page));
        Assert.Equal(new(PageTableStatus.DamagedTables, 0), table.ChangeAccess(page, DmaAccess.Read));
        Turn(table, large, 1UL << 62);
        Assert.Equal(new(PageTableStatus.Done, 0x20_0000, 0x20_0000), table.UnmapAndFree(page));
    }

    [Fact]
    public void TablesThatCannotGrowGiveTheFrameBack()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        for (int answers = 0; answers < 2; answers++)
        {
            int before = table.Frames.Live;
            bool grew = PageTable<VtdSecondStage>.TryGrow(new FailingMemory(table.Memory, answers), table.Root,
                table.Frames, out PageTableRoot grown);
            Assert.Equal(answers == 1, grew);
            Assert.Equal(before + answers, table.Frames.Live);
            Assert.Equal(grew ? (4, false) : (3, true), (grown.TopLevel, grown.Table == table.Root.Table));
            if (!grew) { continue; }
            Assert.True(table.Memory.TryRead64(grown.Table, out ulong word));
            Assert.Equal(table.Root.Table.Value | 3, word);
            Assert.False(PageTable<VtdSecondStage>.TryGrow(table.Memory, grown, table.Frames, out PageTableRoot same));
            Assert.Equal(grown, same);
        }
        table.Frames.Budget = 0;
        Assert.False(PageTable<VtdSecondStage>.TryGrow(table.Memory, table.Root, table.Frames, out _));
    }

    /// <summary>The range mapped; the place of its first leaf.</summary>
    private static TestedTable Mapped(out ulong leaf)
    {
        TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        Assert.True(table.Map(Range, new(0x801F_D000), DmaAccess.ReadWrite).IsDone);
        leaf = Entry(table, Range.First.Value, 0);
        return table;
    }

    /// <summary>Where the entry of a level for an address lies.</summary>
    private static ulong Entry(TestedTable table, ulong address, int level)
    {
        PhysicalAddress entry = default;
        ulong tableAt = table.Root.Table.Value;
        for (int at = 3; at >= level; at--)
        {
            entry = new(tableAt + ((address >> (12 + 9 * at) & 511) << 3));
            Assert.True(table.Memory.TryRead64(entry, out ulong word));
            tableAt = word & 0x000F_FFFF_FFFF_F000;
        }
        return entry.Value;
    }

    private static void Turn(TestedTable table, ulong at, ulong bits)
    {
        Assert.True(table.Memory.TryRead64(new(at), out ulong word));
        Assert.True(table.Memory.TryWrite64(new(at), word ^ bits));
    }
}
