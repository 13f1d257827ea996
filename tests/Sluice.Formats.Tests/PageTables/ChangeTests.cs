using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>Changes of rights and collections of dirty pages, down to the words they leave behind.</summary>
public sealed class ChangeTests
{
    // Seen failing: the sizes as one number, "PageSizes = 2101248".
    [Theory]
    [InlineData(PageTableStatus.Done, 8192UL, 0x1000UL, "8192 bytes done, in pages of 4 KiB")]
    [InlineData(PageTableStatus.Done, 0UL, 0UL, "0 bytes done")]
    [InlineData(PageTableStatus.Done, 1UL, 1UL, "1 byte done, in pages of 1 B")]
    [InlineData(PageTableStatus.NoFrames, 0x4020_1000UL, 0x4020_1000UL,
        "NoFrames after 1075843072 bytes, in pages of 4 KiB, 2 MiB and 1 GiB")]
    [InlineData(PageTableStatus.WouldSplit, 0x4000UL, 0x200_4000UL,
        "WouldSplit after 16384 bytes, in pages of 16 KiB and 32 MiB")]
    [InlineData(PageTableStatus.Done, 0UL, 1UL << 63, "0 bytes done, in pages of 8 EiB")]
    public void AChangeSaysItsSizes(PageTableStatus status, ulong bytes, ulong sizes, string expected) =>
        Assert.Equal(expected, new PageTableChange(status, bytes, sizes).ToString());

    private const DmaAccess R = DmaAccess.Read, W = DmaAccess.Write, RW = DmaAccess.ReadWrite;

    /// <summary>
    /// Columns: format, leaf before, new rights, leaf after. What hardware recorded stays; what a new right comes with
    /// is set; what hardware had cleared stays clear.
    /// </summary>
    public static TheoryData<string, ulong, DmaAccess, ulong> Words => new()
    {
        { "vtd-ss, 4 levels", 0x0000_0001_2345_6003, R, 0x0000_0001_2345_6001 },
        { "vtd-ss, 4 levels", 0x0000_0001_2345_6303, W, 0x0000_0001_2345_6302 },
        { "vtd-ss, 4 levels", 0x0000_0001_2345_6101, RW, 0x0000_0001_2345_6103 },
        { "x86, 4 levels", 0x0000_0001_2345_6007, R, 0x0000_0001_2345_6005 },
        { "x86, 4 levels", 0x0000_0001_2345_6067, R, 0x0000_0001_2345_6065 },
        { "x86, 4 levels", 0x0000_0001_2345_6025, W, 0x0000_0001_2345_6027 },
        { "amdv1, 4 levels", 0x6000_0001_2345_6061, W, 0x4000_0001_2345_6061 },
        { "riscv-sv48", 0x0000_0000_48D1_5853, RW, 0x0000_0000_48D1_58D7 }, // D comes with W
        { "riscv-sv48", 0x0000_0000_48D1_58D7, R, 0x0000_0000_48D1_58D3 }, // D stays
        { "riscv-sv48", 0x0000_0000_48D1_5897, R, 0x0000_0000_48D1_5893 }, // A, cleared by hardware, stays so
        { "arm-4k, stage 1, 48 bits", 0x0000_0001_2345_6FC3, RW, 0x0000_0001_2345_6F43 },
    };

    // Seen failing: rights of the new leaf taken for those of the old, so that D did not come with W.
    [Theory]
    [MemberData(nameof(Words))]
    public void ALeafKeepsWhatHardwareRecorded(string format, ulong before, DmaAccess access, ulong after)
    {
        using TestedTable table = TestedFormats.Create(format);
        LogicalRange page = LogicalRange.FromLength(new(0x7000), 0x1000);
        Assert.True(table.Map(page, new(0x1_2345_6000), RW).IsDone);
        ulong leaf = LeafOf(table, 0x1_2345_6000);
        Assert.True(table.Memory.TryWrite64(new(leaf), before));
        Assert.Equal(new(PageTableStatus.Done, 0x1000, 0x1000), table.ChangeAccess(page, access));
        Assert.True(table.Memory.TryRead64(new(leaf), out ulong word));
        Assert.Equal($"{after:X16}", $"{word:X16}");
    }

    [Fact]
    public void WhatCannotBeChangedIsRefused()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        LogicalRange pages = LogicalRange.FromLength(new(0x7000), 0x3000);
        Assert.True(table.Map(pages, new(0x9000), RW).IsDone);
        Assert.Equal(new(PageTableStatus.NoAccess, 0), table.ChangeAccess(pages, DmaAccess.None));
        Assert.Equal(new(PageTableStatus.Misaligned, 0), table.ChangeAccess(new(new(0x7001), new(0x9FFF)), R));
        Assert.Equal(new(PageTableStatus.Misaligned, 0), table.ChangeAccess(new(new(0x7000), new(0x9FFE)), R));
        Assert.Equal(new(PageTableStatus.OutOfRange, 0), table.ChangeAccess(new(new(0x7000),
            new(0x1_0000_0000_0FFF)), R));
        Assert.Equal(PageTableStatus.Misaligned, table.CollectDirty(new(new(0x7001), new(0x9FFF)), true, new ulong[1]));
        Assert.Equal(PageTableStatus.Misaligned, table.CollectDirty(new(new(0x7000), new(0x9FFE)), true, new ulong[1]));
        Assert.Equal(PageTableStatus.OutOfRange, table.CollectDirty(new(new(0xFFFF_FFFF_F000), new(0x1_0000_0000_0FFF)),
            true, new ulong[1]));
        Assert.Equal(RW, table.Walk(pages.First).Access);
        // Parts that are not mapped are passed over, and not counted.
        Assert.Equal(new(PageTableStatus.Done, 0x3000, 0x1000), table.ChangeAccess(new(new(0), new(0xFFFF_FFFF)), R));
        Assert.Equal(R, table.Walk(pages.Last).Access);
    }

    // The bits of a dirty 2 MiB page, for ranges that begin and end inside and outside of it.
    [Theory]
    [InlineData(0x20_0000UL, 0x20_3FFFUL, 0b1111UL)]
    [InlineData(0x20_3000UL, 0x20_5FFFUL, 0b111UL)]
    [InlineData(0x1F_E000UL, 0x20_1FFFUL, 0b1100UL)]
    [InlineData(0x3F_E000UL, 0x40_1FFFUL, 0b0011UL)]
    [InlineData(0x3F_F000UL, 0x3F_FFFFUL, 0b1UL)]
    [InlineData(0x1F_F000UL, 0x1F_FFFFUL, 0UL)]
    [InlineData(0x40_0000UL, 0x40_0FFFUL, 0UL)]
    [InlineData(0x3C_1000UL, 0x40_0FFFUL, 0x7FFF_FFFF_FFFF_FFFFUL)]
    public void OfALargeDirtyPageTheRangesPartCounts(ulong first, ulong last, ulong expected)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        Assert.True(table.Map(new(new(0x1F_0000), new(0x40_FFFF)), new(0x801F_0000), RW).IsDone);
        ulong leaf = LeafOf(table, 0x8020_0000);
        Assert.True(table.Memory.TryRead64(new(leaf), out ulong word));
        Assert.True(table.Memory.TryWrite64(new(leaf), word | 0x200));
        LogicalRange range = new(new(first), new(last));
        ulong[] dirty = new ulong[1];
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, false, dirty));
        Assert.Equal($"{expected:X}", $"{dirty[0]:X}");
        // Not cleared, so found again; bits that were set stay.
        dirty[0] = 1UL << 63;
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, dirty));
        Assert.Equal($"{expected | 1UL << 63:X}", $"{dirty[0]:X}");
        dirty[0] = 0;
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, dirty));
        Assert.Equal(0UL, dirty[0]);
        Assert.True(table.Memory.TryRead64(new(leaf), out ulong after));
        Assert.Equal(expected == 0 ? word | 0x200 : word, after);
    }

    // Sixteen kibibytes in four items: hardware marks the one it went through.
    [Fact]
    public void ADirtyItemIsADirtyPage()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 4 levels");
        Assert.True(table.Map(new(new(0x3000), new(0x8FFF)), new(0x1_2345_3000), RW).IsDone);
        ulong leaf = LeafOf(table, 0x1_2345_4000);
        Assert.True(table.Memory.TryRead64(new(leaf + 8), out ulong word));
        Assert.Equal("6000000123455E01", $"{word:X16}");
        Assert.True(table.Memory.TryWrite64(new(leaf + 8), word | 0x40));
        ulong[] dirty = new ulong[1];
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(new(new(0x3000), new(0x8FFF)), false, dirty));
        Assert.Equal(0b011110UL, dirty[0]);
    }

    [Fact]
    public void OneBitPerPageMustBeThere()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(LogicalRange.FromLength(new(0), 64 << 12), true,
            new ulong[1]));
        ArgumentException thrown = Assert.Throws<ArgumentException>(() =>
            table.CollectDirty(LogicalRange.FromLength(new(0), 65 << 12), true, new ulong[1]));
        Assert.StartsWith("1 words are too few for the pages of ", thrown.Message, StringComparison.Ordinal);
        using TestedTable flat = TestedFormats.Create("gart");
        NotSupportedException unable = Assert.Throws<NotSupportedException>(() =>
            flat.CollectDirty(flat.Spaces[0], true, new ulong[128]));
        Assert.Equal("gart tables do not record which pages were written", unable.Message);
    }

    // Which formats take another level on top, and which word leads down from it.
    [Theory]
    [InlineData("vtd-ss, 3 levels", 3UL)]
    [InlineData("vtd-ss, 4 levels", 3UL)]
    [InlineData("vtd-ss, 5 levels", 0UL)]
    [InlineData("x86, 4 levels", 0UL)]
    [InlineData("amdv1, 1 level", 0x6000_0000_0000_0201UL)]
    [InlineData("amdv1, 3 levels", 0x6000_0000_0000_0601UL)]
    [InlineData("amdv1, 6 levels", 0UL)]
    [InlineData("riscv-sv39", 0UL)]
    [InlineData("riscv-sv39x4", 0UL)]
    [InlineData("arm-4k, stage 1, 36 bits", 0UL)]
    [InlineData("dart-t8020", 0UL)]
    [InlineData("gart", 0UL)]
    public void ANewTopLeadsDownToTheOldOne(string format, ulong link)
    {
        using TestedTable table = TestedFormats.Create(format);
        PageTableRoot old = table.Root;
        int live = table.Frames.Live;
        Assert.Equal(link != 0, table.Grow());
        Assert.Equal(link != 0 ? live + 1 : live, table.Frames.Live);
        if (link == 0)
        {
            Assert.Equal(old, table.Root);
            return;
        }
        Assert.Equal(old with { Table = table.Root.Table, TopLevel = old.TopLevel + 1 }, table.Root);
        Assert.True(table.Memory.TryRead64(table.Root.Table, out ulong word));
        Assert.Equal($"{old.Table.Value | link:X}", $"{word:X}");
    }

    /// <summary>Where the first item of the leaf for a page lies: the lowest word with its address.</summary>
    private static ulong LeafOf(TestedTable table, ulong page)
    {
        List<ulong> found = [];
        foreach ((ulong frame, _) in table.Frames.Allocated)
        {
            for (ulong at = frame; at < frame + 4096; at += 8)
            {
                Assert.True(table.Memory.TryRead64(new(at), out ulong word));
                bool isRiscV = table.Root.PhysicalAddressBits == 56;
                ulong address = isRiscV ? word >> 10 << 12 : word & 0xF_FFFF_FFFF_F000;
                if (word != 0 && (address == page || (word & 0xE00) == 0xE00 && address >> 14 << 14 == page))
                {
                    found.Add(at);
                }
            }
        }
        return found.Min();
    }
}
