using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Arm's dirty state, bit by bit: with DBM (51) a leaf is writable, and the write permission (AP[2] 7 clear at stage 1,
/// S2AP[1] 7 set at stage 2) says that it was written. Words as Linux's io-pgtable-arm reads and writes them with its
/// quirk for hardware dirty state.
/// </summary>
public sealed class ArmDirtyTests
{
    private const ulong Stage1Dirty = 0x0008_0001_2345_6F43, Stage1Clean = 0x0008_0001_2345_6FC3;
    private const ulong Stage2Dirty = 0x0008_0001_2345_67FF, Stage2Clean = 0x0008_0001_2345_677F;
    private static readonly PageTableRoot Root = new(default, 3, 48);
    private static readonly PhysicalAddress Page = new(0x1_2345_6000);

    // Seen failing: stage 2 read like stage 1.
    [Fact]
    public void WritableLeavesAreWrittenDirtyAndReadAsTheWordsSay()
    {
        Check<ArmStage1Dirty>(Stage1Dirty, Stage1Clean);
        Check<ArmStage2Dirty>(Stage2Dirty, Stage2Clean);
    }

    private static void Check<TStage>(ulong dirty, ulong clean)
        where TStage : struct, IArmStage
    {
        Assert.Equal(dirty, Arm<Arm4K, TStage>.Leaf(Page, DmaAccess.ReadWrite, 0, 12));
        Assert.True(Arm<Arm4K, TStage>.IsDirty(dirty));
        Assert.False(Arm<Arm4K, TStage>.IsDirty(clean));
        Assert.Equal(clean, Arm<Arm4K, TStage>.WithDirty(dirty, false));
        Assert.Equal(dirty, Arm<Arm4K, TStage>.WithDirty(clean, true));
        Assert.Equal(clean, Arm<Arm4K, TStage>.WithDirty(clean, false));
        Assert.Equal(DmaAccess.ReadWrite, Arm<Arm4K, TStage>.Access(dirty, 0, Root));
        Assert.Equal(DmaAccess.ReadWrite, Arm<Arm4K, TStage>.Access(clean, 0, Root));
        Assert.Equal(Page, Arm<Arm4K, TStage>.Address(clean, 0));
    }

    [Fact]
    public void AReadOnlyLeafHasNoDirtyState()
    {
        ulong first = Arm<Arm4K, ArmStage1Dirty>.Leaf(Page, DmaAccess.Read, 0, 12);
        ulong second = Arm<Arm4K, ArmStage2Dirty>.Leaf(Page, DmaAccess.Read, 0, 12);
        Assert.Equal(0x0000_0001_2345_6FC3UL, first);
        Assert.Equal(0x0000_0001_2345_677FUL, second);
        Assert.Equal(first, Arm<Arm4K, ArmStage1Dirty>.WithDirty(first, true));
        Assert.Equal(second, Arm<Arm4K, ArmStage2Dirty>.WithDirty(second, true));
        Assert.Equal(DmaAccess.Read, Arm<Arm4K, ArmStage1Dirty>.Access(first, 0, Root));
    }

    [Fact]
    public void WithoutHardwareManagementDbmMeansNothing()
    {
        Assert.Equal(DmaAccess.Read, Arm<Arm4K, ArmStage1>.Access(Stage1Clean, 0, Root));
        Assert.Equal(DmaAccess.Read, Arm<Arm4K, ArmStage2>.Access(Stage2Clean, 0, Root));
        Assert.False(Arm<Arm4K, ArmStage1>.IsDirty(Stage1Dirty));
        Assert.False(Arm<Arm4K, ArmStage1>.RecordsDirty);
    }

    // Seen failing: a leaf made read-only by its write permission alone, which DBM gives back.
    [Theory]
    [InlineData("arm-4k, stage 1, dirty")]
    [InlineData("arm-16k, stage 2, dirty")]
    public void TheDirtyStateOutlivesRightsThatGoAndComeBack(string format)
    {
        using TestedTable table = TestedFormats.Create(format);
        LogicalRange range = LogicalRange.FromLength(new(0), 1UL << (table.GranuleLog2 + 4));
        Assert.True(table.Map(range, new(1UL << 33), DmaAccess.ReadWrite).IsDone);
        ulong[] dirty = new ulong[1];
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, dirty));
        Assert.Equal(0xFFFFUL, dirty[0]);
        LogicalRange half = LogicalRange.FromLength(range.First, range.Length / 2);
        Assert.True(table.ChangeAccessSplitting(half, DmaAccess.Read).IsDone);
        Assert.Equal(DmaAccess.Read, table.Walk(half.First).Access);
        Assert.Equal(DmaAccess.ReadWrite, table.Walk(range.Last).Access);
        Array.Clear(dirty);
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, dirty));
        Assert.Equal(0UL, dirty[0]);
        // A leaf that becomes writable is written dirty: what was written before cannot be known.
        Assert.True(table.ChangeAccess(half, DmaAccess.ReadWrite).IsDone);
        Assert.Equal(PageTableStatus.Done, table.CollectDirty(range, true, dirty));
        Assert.Equal(0xFFUL, dirty[0]);
    }
}
