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
