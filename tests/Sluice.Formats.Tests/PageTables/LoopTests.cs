using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Tables that lead back to tables above them, found by translating and by listing, where a table is not one frame of
/// 4 KiB: roots of several tables and granules of 16 KiB.
/// </summary>
public sealed class LoopTests
{
    // The root of riscv-sv39x4 is 16 KiB: a pointer into its fourth frame leads back to it.
    [Fact]
    public void APointerIntoALongRootIsALoop()
    {
        using TestedTable table = TestedFormats.Create("riscv-sv39x4");
        Put(table, 0x20_0000, 0, Link(0x20_3000));
        Put(table, 0x20_0000, 1, Link(0x20_4000));
        Put(table, 0x20_4000, 0, 0x0000_0000_1008_00D7); // 2 MiB at 0x4020_0000
        Put(table, 0x20_3000, 0, 0x0000_0000_1008_00D7); // the root's slot 0x600 as well
        IPageTableReader reader = Find("riscv-sv39x4", new() { Root = new(0x20_0000) });
        Assert.Equal(WalkStatus.BadPointer, reader.Translate(table.Memory, default).Status);
        Assert.Equal(0x4020_0123UL, reader.Translate(table.Memory, new((1UL << 30) + 0x123)).Address.Value);
        PageTableListing listing = reader.List(table.Memory, ListingLimits.Default);
        Assert.Equal(
            [
                new(new(0x20_0000), 0, 2, TableProblem.Loop),
                // 1 GiB at an address that is not a multiple of it.
                new TableDamage(new(0x20_0000), 0x600, 2, TableProblem.ReservedBits),
            ],
            listing.Damage);
        Assert.Equal(new(LogicalRange.FromLength(new(1UL << 30), 0x20_0000), new(0x4020_0000), DmaAccess.ReadWrite),
            Assert.Single(listing.Ranges));

        static ulong Link(ulong table) => table >> 12 << 10 | 1;
    }

    // The two entries lie in different frames of one table of 16 KiB.
    [Fact]
    public void ATableOfFourFramesIsOneTable()
    {
        using TestedTable table = TestedFormats.Create("dart-t8110, 3 levels");
        Put(table, 0x20_0000, 0, Link(0x20_8000));
        Put(table, 0x20_8000, 0, Link(0x20_8000)); // level 1, slot 0: itself
        Put(table, 0x20_8000, 1, Link(0x20_C000)); // level 1, slot 1: another
        Put(table, 0x20_8000, 0x400, 0x000F_FF00_0100_0001); // what level 0 would find: page 0x1000_0000
        Put(table, 0x20_C000, 0x400, 0x000F_FF00_0100_0001);
        IPageTableReader reader = Find("dart-t8110", new() { Root = new(0x20_0000), Levels = 3 });
        Assert.Equal(WalkStatus.BadPointer, reader.Translate(table.Memory, new(0x400UL << 14)).Status);
        Assert.Equal(0x1000_0123UL,
            reader.Translate(table.Memory, new((1UL << 25) + (0x400UL << 14) + 0x123)).Address.Value);

        static ulong Link(ulong table) => table >> 4 | 1;
    }

    [Fact]
    public void AFlatTableIsReadOnce()
    {
        using TestedTable table = TestedFormats.Create("gart");
        Assert.True(table.Memory.TryWrite32(new(0x20_0014), 0x2345_6023));
        IPageTableReader reader = Find("gart",
            new() { Root = new(0x20_0000), Entries = 6, Aperture = new(0xD000_0000) });
        Assert.Equal(new(WalkStatus.Mapped, new(0x02_2345_6789), DmaAccess.ReadWrite, 12),
            reader.Translate(table.Memory, new(0xD000_5789)));
        Assert.Equal(WalkStatus.NotPresent, reader.Translate(table.Memory, new(0xD000_4789)).Status);
        Assert.Equal(WalkStatus.OutOfRange, reader.Translate(table.Memory, new(0xD000_6000)).Status);
        Assert.Equal(WalkStatus.OutOfRange, reader.Translate(table.Memory, new(0xCFFF_FFFF)).Status);
    }

    private static IPageTableReader Find(string name, PageTableOptions options)
    {
        Assert.True(PageTableFormats.TryFind(name, options, out IPageTableReader? reader, out string problem), problem);
        return reader;
    }

    private static void Put(TestedTable table, ulong at, ulong index, ulong word) =>
        Assert.True(table.Memory.TryWrite64(new(at + (index * 8)), word));
}
