using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>Races made certain: a rival acts between a look at an entry and the store to it.</summary>
public sealed class RaceTests
{
    // Seen failing: tables linked by a plain store, so that the rival's mapping was lost; the loser's frame kept.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void OfTwoTablesForOneSlotTheFirstStaysAndTheOthersFrameGoesBack(int store)
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        LogicalRange ours = LogicalRange.FromLength(new(0x5000), 0x1000), theirs = LogicalRange.FromLength(new(0x9000),
            0x1000);
        RivalMemory memory = new(table.Memory, store, () =>
            Assert.True(table.Map(theirs, new(0x9_0000), DmaAccess.Read).IsDone));
        Assert.True(PageTable<VtdSecondStage>.Map(memory, table.Root, table.Frames, ours, new(0x5_0000),
            DmaAccess.Write).IsDone);
        Assert.Equal(new(WalkStatus.Mapped, new(0x5_0000), DmaAccess.Write, 12), table.Walk(ours.First));
        Assert.Equal(new(WalkStatus.Mapped, new(0x9_0000), DmaAccess.Read, 12), table.Walk(theirs.First));
        Assert.Equal(table.RootFrames + 3, table.Frames.Live);
    }

    // Seen failing: the entry replaced by a plain store, which lost the dirty bit that hardware set meanwhile.
    [Fact]
    public void BitsThatHardwareSetsDuringAChangeAreKept()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        LogicalRange page = LogicalRange.FromLength(new(0x5000), 0x1000);
        Assert.True(table.Map(page, new(0x1_2345_6000), DmaAccess.ReadWrite).IsDone);
        HashSet<PhysicalAddress> written = [new(0x1_2345_6000)];
        RivalMemory memory = new(table.Memory, 1, () => table.SetDirty(written));
        Assert.True(PageTable<VtdSecondStage>.ChangeAccess(memory, table.Root, page, DmaAccess.Write).IsDone);
        ulong[] dirty = new ulong[1];
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(page, true, dirty));
        Assert.Equal(1UL, dirty[0]);
        Assert.Equal(DmaAccess.Write, table.Walk(page.First).Access);
    }

    // Seen failing: the table linked with what was read before hardware marked the page.
    [Theory]
    [InlineData(1)]
    [InlineData(300)]
    [InlineData(513)]
    public void AMarkThatHardwareSetsDuringASplitGoesToAllParts(int store)
    {
        using TestedTable table = TestedFormats.Create("x86, 4 levels");
        LogicalRange page = LogicalRange.FromLength(new(0x4000_0000), 0x20_0000);
        Assert.True(table.Map(page, new(0x1_0000_0000), DmaAccess.ReadWrite).IsDone);
        HashSet<PhysicalAddress> written = [new(0x1_0000_0000)];
        RivalMemory memory = new(table.Memory, store, () => table.SetDirty(written));
        LogicalRange part = LogicalRange.FromLength(page.First + 0x5000, 0x1000);
        Assert.Equal(PageTableStatus.Done, PageTable<X86>.Split(memory, table.Root, table.Frames, part));
        ulong[] dirty = new ulong[8];
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(page, true, dirty));
        Assert.All(dirty, static word => Assert.Equal(ulong.MaxValue, word));
        Assert.Equal(12, table.Walk(part.First).PageSizeLog2);
    }

    // Seen failing: marks found while the items were rewritten not given to those before.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(16)]
    public void AMarkThatHardwareSetsOnOneItemOfAGroupGoesToAll(int store)
    {
        using TestedTable table = TestedFormats.Create("arm-4k, stage 1, dirty");
        LogicalRange page = LogicalRange.FromLength(new(0x4000_0000), 0x1_0000);
        Assert.True(table.Map(page, new(0x1_0000_0000), DmaAccess.ReadWrite).IsDone);
        table.ClearDirty();
        HashSet<PhysicalAddress> written = [new(0x1_0000_F000)];
        RivalMemory memory = new(table.Memory, store, () => table.SetDirty(written));
        LogicalRange part = LogicalRange.FromLength(page.First + 0x5000, 0x1000);
        Assert.Equal(PageTableStatus.Done,
            PageTable<Arm<Arm4K, ArmStage1Dirty>>.Split(memory, table.Root, table.Frames, part));
        ulong[] dirty = new ulong[1];
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(page, true, dirty));
        Assert.Equal(0xFFFFUL, dirty[0]);
        Assert.Equal(12, table.Walk(part.First).PageSizeLog2);
    }

    // Seen failing: the frame kept when the swap found no memory.
    [Fact]
    public void ATableThatCannotBeLinkedGivesItsFrameBack()
    {
        using TestedTable table = TestedFormats.Create("vtd-ss, 4 levels");
        LogicalRange page = LogicalRange.FromLength(new(0x5000), 0x1000);
        LockedMemory memory = new(table.Memory);
        PageTableChange change = PageTable<VtdSecondStage>.Map(memory, table.Root, table.Frames, page, new(0x5_0000),
            DmaAccess.Read);
        Assert.Equal(new(PageTableStatus.DamagedTables, 0), change);
        Assert.Equal(table.RootFrames, table.Frames.Live);

        LogicalRange large = LogicalRange.FromLength(new(0x4000_0000), 0x20_0000);
        Assert.True(table.Map(large, new(0x1_0000_0000), DmaAccess.Read).IsDone);
        int live = table.Frames.Live;
        LogicalRange part = LogicalRange.FromLength(large.First, 0x1000);
        Assert.Equal(PageTableStatus.DamagedTables,
            PageTable<VtdSecondStage>.Split(memory, table.Root, table.Frames, part));
        Assert.Equal(live, table.Frames.Live);
        Assert.Equal(21, table.Walk(part.First).PageSizeLog2);

        Assert.False(PageTable<VtdSecondStage>.TryGrow(memory, table.Root, table.Frames, out _));
        Assert.Equal(live, table.Frames.Live);
    }

    /// <summary>A memory that can be read but not written, as a dump is.</summary>
    private readonly struct LockedMemory(PhysicalMemory memory) : IPhysicalMemory
    {
        public bool TryRead64(PhysicalAddress address, out ulong value) => memory.TryRead64(address, out value);

        public bool TryRead32(PhysicalAddress address, out uint value) => memory.TryRead32(address, out value);

        public bool TryRead(PhysicalAddress address, Span<byte> destination) => memory.TryRead(address, destination);

        public bool TryWrite64(PhysicalAddress address, ulong value) => false;

        public bool TryWrite32(PhysicalAddress address, uint value) => false;

        public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => false;

        public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed)
        {
            observed = 0;
            return false;
        }
    }

    /// <summary>A memory in which a rival acts just before the n-th store.</summary>
    private readonly struct RivalMemory(PhysicalMemory memory, int store, Action rival) : IPhysicalMemory
    {
        private readonly int[] _stores = new int[1];

        public bool TryRead64(PhysicalAddress address, out ulong value) => memory.TryRead64(address, out value);

        public bool TryRead32(PhysicalAddress address, out uint value) => memory.TryRead32(address, out value);

        public bool TryRead(PhysicalAddress address, Span<byte> destination) => memory.TryRead(address, destination);

        public bool TryWrite64(PhysicalAddress address, ulong value)
        {
            Act();
            return memory.TryWrite64(address, value);
        }

        public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed)
        {
            Act();
            return memory.TryCompareExchange64(address, comparand, value, out observed);
        }

        public bool TryWrite32(PhysicalAddress address, uint value) => memory.TryWrite32(address, value);

        public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => memory.TryWrite(address, source);

        private void Act()
        {
            if (++_stores[0] == store) { rival(); }
        }
    }
}
