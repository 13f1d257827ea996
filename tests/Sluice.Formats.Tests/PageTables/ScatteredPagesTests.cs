using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>Lists of scattered pages, of every length around what the processor checks at once.</summary>
public sealed class ScatteredPagesTests
{
    // Wherever in the list: in the part that vectors check or in the rest.
    [Fact]
    public void OnePageBeyondTheHardwareOrAskewRefusesTheList()
    {
        using TestedTable table = TestedFormats.Create("dart-t8020");
        for (int count = 1; count <= 20; count++)
        {
            for (int bad = 0; bad < count; bad++)
            {
                foreach ((ulong page, bool isAskew) in ((ulong, bool)[])[(1UL << 36, false), (1UL << 63, false), (0x1000, true)])
                {
                    PhysicalAddress[] pages = new PhysicalAddress[count];
                    pages[bad] = new(page);
                    PageTableChange change = table.MapPages(new(0), pages, DmaAccess.ReadWrite);
                    Assert.Equal(0UL, change.Bytes);
                    bool isFirst = isAskew && bad == 0;
                    Assert.Equal(isFirst ? PageTableStatus.Misaligned : PageTableStatus.OutOfRange, change.Status);
                }
            }
        }
        Assert.Equal(table.RootFrames, table.Frames.Live);
    }

    // As many wrong as there are: they must not cancel out.
    [Theory]
    [InlineData(2)]
    [InlineData(8)]
    [InlineData(16)]
    [InlineData(17)]
    [InlineData(32)]
    public void ManyPagesBeyondTheHardwareDoToo(int count)
    {
        using TestedTable table = TestedFormats.Create("dart-t8020");
        PhysicalAddress[] pages = new PhysicalAddress[count];
        Array.Fill(pages, new(1UL << 36));
        Assert.Equal(new(PageTableStatus.OutOfRange, 0), table.MapPages(new(0), pages, DmaAccess.ReadWrite));
    }

    [Fact]
    public void EveryPageUpToTheLastOfTheHardwareIsTaken()
    {
        using TestedTable table = TestedFormats.Create("dart-t8020");
        for (int count = 1; count <= 20; count++)
        {
            PhysicalAddress[] pages = new PhysicalAddress[count];
            for (int i = 0; i < count; i++) { pages[i] = new((1UL << 36) - ((ulong)(i + 1) << 14)); }
            Assert.Equal(new(PageTableStatus.Done, (ulong)count << 14, 1UL << 14),
                table.MapPages(new(0x4000), pages, DmaAccess.ReadWrite));
            for (int i = 0; i < count; i++)
            {
                Assert.Equal(pages[i] + 5, table.Walk(new(0x4005 + ((ulong)i << 14))).Address);
            }
            Assert.True(table.UnmapAndFree(LogicalRange.FromLength(new(0x4000), (ulong)count << 14)).IsDone);
        }
    }

    [Fact]
    public void NoPagesAreDoneAtOnceAndTooManyReachPastTheEnd()
    {
        using TestedTable table = TestedFormats.Create("amdv1, 6 levels");
        Assert.Equal(new(PageTableStatus.Done, 0), table.MapPages(new(0x123), [], DmaAccess.None));
        PhysicalAddress[] two = [new(0), new(0)];
        Assert.Equal(new(PageTableStatus.OutOfRange, 0),
            table.MapPages(new(0xFFFF_FFFF_FFFF_F000), two, DmaAccess.ReadWrite));
        Assert.Equal(new(PageTableStatus.Done, 0x2000, 0x1000),
            table.MapPages(new(0xFFFF_FFFF_FFFF_E000), two, DmaAccess.ReadWrite));
    }
}
