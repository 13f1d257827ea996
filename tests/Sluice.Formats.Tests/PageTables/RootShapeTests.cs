using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>How large roots are, what they translate, and where their tables may lie.</summary>
public sealed class RootShapeTests
{
    [Theory]
    [InlineData(1UL, 2)]
    [InlineData(2UL, 3)]
    [InlineData(3UL, 4)]
    [InlineData(4UL, 4)]
    [InlineData(5UL, 5)]
    [InlineData(8192UL, 15)]
    [InlineData(8193UL, 16)]
    [InlineData(1UL << 32, 34)]
    public void AFlatRootHasRoomForItsEntries(ulong entries, int sizeLog2)
    {
        Assert.Equal(sizeLog2, PageTable<Gart>.RootSizeLog2(new(default, 0) { Entries = entries }));
        Assert.Equal(sizeLog2, PageTable<DartU3>.RootSizeLog2(new(default, 0) { Entries = entries }));
    }

    [Fact]
    public void FramesForTablesAreNeverSmallerThanAFrame()
    {
        Assert.Equal(12, PageTable<VtdSecondStage>.TableFrameLog2);
        Assert.Equal(12, PageTable<MockFormat>.TableFrameLog2);
        Assert.Equal(14, PageTable<Dart<DartT8020>>.TableFrameLog2);
        Assert.Equal(16, PageTable<Arm<Arm64K, ArmStage1>>.TableFrameLog2);
    }

    // Six levels of AMD's tables hold 66 bits of address: 7 index bits are left for the top.
    [Fact]
    public void TheWholeOfASpaceOf64BitsIsTranslated()
    {
        PageTableRoot six = new(default, 5);
        Assert.Equal((64, 10), (PageTable<AmdV1>.InputBits(six), PageTable<AmdV1>.RootSizeLog2(six)));
        using TestedTable table = TestedFormats.Create("amdv1, 6 levels");
        foreach (int inputBits in (int[])[0, 64])
        {
            PageTableRoot root = table.Root with { InputBits = inputBits };
            Assert.Equal(WalkStatus.NotPresent,
                PageTable<AmdV1>.Walk(table.Memory, root, new(ulong.MaxValue)).Status);
        }
        PageTableRoot narrow = table.Root with { InputBits = 63 };
        Assert.Equal(WalkStatus.OutOfRange,
            PageTable<AmdV1>.Walk(table.Memory, narrow, new(1UL << 63)).Status);
        Assert.Equal(WalkStatus.NotPresent,
            PageTable<AmdV1>.Walk(table.Memory, narrow, new(ulong.MaxValue >> 1)).Status);
    }

    // No level is left to do without, and 16 tables side by side would be 256 KiB of pages.
    [Theory]
    [InlineData(16, 0)]
    [InlineData(17, 0)]
    [InlineData(21, 0)]
    [InlineData(25, 0)]
    [InlineData(26, 1)]
    public void AStageTwoRootHasAtLeastOneLevel(int bits, int topLevel)
    {
        PageTableRoot root = Arm<Arm4K, ArmStage2>.Shape(bits);
        Assert.Equal((topLevel, bits, 48), (root.TopLevel, root.InputBits, root.PhysicalAddressBits));
    }

    // The hardware reads tables with as many address bits as pages.
    [Theory]
    [InlineData(46, 46)]
    [InlineData(60, 52)]
    public void FramesAreAskedForWhereTheHardwareReaches(int physicalBits, int reach)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 3 levels");
        PageTableRoot root = table.Root with { PhysicalAddressBits = physicalBits };
        AskedFrames frames = new(table.Frames);
        Assert.True(PageTable<VtdSecondStage>.Map(table.Memory, root, frames, LogicalRange.FromLength(new(0x20_1000),
            0x1000), new(0x7000), DmaAccess.Read).IsDone);
        Assert.True(PageTable<VtdSecondStage>.TryGrow(table.Memory, root, frames, out _));
        LogicalRange large = LogicalRange.FromLength(new(0x4000_0000), 0x20_0000);
        Assert.True(PageTable<VtdSecondStage>.Map(table.Memory, root, frames, large, new(0), DmaAccess.Read).IsDone);
        Assert.Equal(PageTableStatus.Done, PageTable<VtdSecondStage>.Split(table.Memory, root, frames,
            LogicalRange.FromLength(large.First, 0x1000)));
        Assert.Equal(Enumerable.Repeat((FrameKind.UnitTable, 12, (1UL << reach) - 1), 5), frames.Asked);
    }

    /// <summary>Frames that remember what they were asked for.</summary>
    private sealed class AskedFrames(TestFrames frames) : IFrameAllocator
    {
        public List<(FrameKind Kind, int SizeLog2, ulong Last)> Asked { get; } = [];

        public int QuarantinedFrames => 0;

        public bool TryAllocate(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last = null)
        {
            Asked.Add((kind, sizeLog2, last!.Value.Value));
            return frames.TryAllocate(kind, sizeLog2, out first, last);
        }

        public void Free(PhysicalAddress first, int sizeLog2) => frames.Free(first, sizeLog2);

        public void Quarantine(PhysicalAddress frame) => throw new NotSupportedException();

        public void Release(PhysicalAddress frame) => throw new NotSupportedException();

        public void Reclaim(PhysicalAddress frame) => throw new NotSupportedException();

        public FrameKind KindOf(PhysicalAddress address) => FrameKind.UnitTable;
    }
}
