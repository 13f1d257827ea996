using Sluice.Iommu.Vtd;

namespace Sluice.Iommu.Tests;

/// <summary>
/// What the caches keep, and that an invalidation drops everything it names: against flat lists, not another cache.
/// </summary>
public sealed class InvalidationTests
{
    private const ushort Disk = 0x0020;

    private sealed class Page
    {
        public required ushort Requester;
        public required ushort Domain;
        public required ulong Logical;
        public required int Level;
        public required ulong Entry;
        public ulong? Current;
        public bool IsCached;
        public ulong? Cached;

        public ulong Size => 1UL << (12 + 9 * Level);

        public bool IsIn(ulong first, ulong last) => Logical <= last && first <= Logical + Size - 1;
    }

    // Pages of three sizes in three domains change at random; every translation must equal the list's: the value cached
    // at the first use after the last covering invalidation, else what the table says now. So stale stays stale, and
    // gone is gone. Seen failing: 2 MiB pages skipped by page-selective requests; the mask applied without aligning the
    // address; domain ids compared in 8 bits; runs of exactly as many pages as sets only half visited.
    [Theory]
    [InlineData(false, 9, 3)]
    [InlineData(false, 4, 15)]
    [InlineData(true, 9, 3)]
    public void TranslationsAreStaleUntilACoveringInvalidationAndNeverAfter(bool cachingMode, int setsLog2, int ways)
    {
        for (int seed = 0; seed < 12; seed++)
        {
            Random random = new(seed);
            VtdOptions options = new()
            {
                CachingMode = cachingMode, IotlbSetsLog2 = setsLog2, IotlbWays = ways, ContextSetsLog2 = 6,
            };
            using Rig rig = new(options, 1UL << 25);
            List<Page> pages = Layout(rig, random, cachingMode);
            rig.Enable();
            for (int step = 0; step < 4_000; step++)
            {
                Page page = pages[random.Next(pages.Count)];
                switch (random.Next(8))
                {
                    case 0:
                        Change(rig, page, random);
                        break;
                    case 1:
                        Invalidate(rig, pages, page, random);
                        break;
                    default:
                        ulong? found = rig.Physical(page.Requester, page.Logical);
                        Assert.Equal(page.IsCached ? page.Cached : page.Current, found);
                        if (page.IsCached || (page.Current is null && !cachingMode)) { break; }
                        (page.IsCached, page.Cached) = (true, page.Current);
                        break;
                }
            }
        }
    }

    private static List<Page> Layout(Rig rig, Random random, bool onlySmall)
    {
        List<Page> pages = [];
        foreach (ushort domain in (ushort[])[1, 0x101, 9])
        {
            ushort requester = (ushort)((domain & 0xFF) + (domain >> 8 << 4));
            ulong table = rig.Attach(requester, domain);
            for (int level = 0; level <= (onlySmall ? 0 : 2); level++)
            {
                for (int i = 0; i < 12; i++)
                {
                    ulong index = (ulong)random.Next(i < 6 ? 4 : 512);
                    ulong logical = ((ulong)(level + 1) << 39) | (index << (12 + 9 * level));
                    if (pages.Any(p => p.Domain == domain && p.Logical == logical)) { continue; }
                    ulong physical = (ulong)random.Next(1, 512) << 30;
                    pages.Add(new()
                    {
                        Requester = requester,
                        Domain = domain,
                        Logical = logical,
                        Level = level,
                        Entry = rig.Map(table, 3, logical, physical, level: level), Current = physical,
                    });
                }
            }
        }
        return pages;
    }

    private static void Change(Rig rig, Page page, Random random)
    {
        page.Current = random.Next(3) == 0 ? null : (ulong)random.Next(1, 512) << 30;
        rig.Poke(page.Entry, page.Current is ulong physical ? physical | 3 | (page.Level > 0 ? 0x80UL : 0) : 0);
    }

    private static void Invalidate(Rig rig, List<Page> pages, Page near, Random random)
    {
        int granularity = random.Next(1, 4);
        int mask = random.Next(0, 19);
        ulong address = (near.Logical + ((ulong)random.Next(-3, 4) << 12)) & 0xFFFF_FFFF_F000;
        ulong first = address & ~((0x1000UL << mask) - 1);
        ulong last = first + (0x1000UL << mask) - 1;
        if (random.Next(4) == 0)
        {
            rig.Registers.Write64(0xF0, address | (uint)mask);
            rig.Registers.Write64(0xF8, (1UL << 63) | ((ulong)granularity << 60) | ((ulong)near.Domain << 32));
            Assert.Equal((ulong)granularity, rig.Registers.Read64(0xF8) >> 57 & 3);
        }
        else
        {
            ulong high = granularity == 3 ? address | (uint)mask : 0;
            rig.SubmitAndWait((2UL | (uint)granularity << 4 | (ulong)near.Domain << 16, high));
        }
        foreach (Page page in pages)
        {
            bool covered = granularity == 1
                || (page.Domain == near.Domain && (granularity == 2 || page.IsIn(first, last)));
            if (covered) { page.IsCached = false; }
        }
    }

    // Eight functions share a slot; each mask value must drop exactly these. Seen failing: the mask hiding low bits
    // first.
    [Theory]
    [InlineData(0, 0b0000_0010)]
    [InlineData(1, 0b0010_0010)]
    [InlineData(2, 0b1010_1010)]
    [InlineData(3, 0b1111_1111)]
    public void TheFunctionMaskHidesFunctionBitsFromTheTop(int mask, int dropped)
    {
        using Rig rig = new(new() { ContextSetsLog2 = 6 });
        ulong[] physical = [0x80_0000, 0x90_0000];
        ulong[] tables = [rig.Table(), rig.Table()];
        for (int i = 0; i < 2; i++) { rig.Map(tables[i], 3, 0, physical[i]); }
        for (ushort f = 0; f < 8; f++) { rig.Attach((ushort)(Disk + f), 1, table: tables[0]); }
        rig.Enable();
        for (ushort f = 0; f < 8; f++) { Assert.Equal(physical[0], rig.Physical((ushort)(Disk + f), 0)); }
        for (ushort f = 0; f < 8; f++) { rig.Attach((ushort)(Disk + f), 2, table: tables[1]); }
        rig.SubmitAndWait((0x31 | (ulong)(Disk + 1) << 32 | (ulong)(uint)mask << 48, 0UL));
        int seen = 0;
        for (ushort f = 0; f < 8; f++) { seen |= rig.Physical((ushort)(Disk + f), 0) == physical[1] ? 1 << f : 0; }
        Assert.Equal(dropped, seen);
    }

    // Seen failing: domain-selective context invalidation comparing the wrong byte.
    [Fact]
    public void ContextEntriesAreStaleUntilTheirDomainOrAllAreInvalidated()
    {
        using Rig rig = new();
        ushort[] devices = [0x10, 0x18, 0x20];
        ulong[] oldTables = new ulong[3];
        for (int i = 0; i < 3; i++)
        {
            oldTables[i] = rig.Attach(devices[i], (ushort)(0x100 + i));
            rig.Map(oldTables[i], 3, 0, 0x80_0000);
        }
        ulong table = rig.Table();
        rig.Map(table, 3, 0, 0x90_0000);
        rig.Enable();
        foreach (ushort device in devices) { Assert.Equal(0x80_0000UL, rig.Physical(device, 0)); }
        for (int i = 0; i < 3; i++) { rig.Attach(devices[i], (ushort)(0x200 + i), table: table); }
        rig.SubmitAndWait((0x21 | 0x101UL << 16, 0UL));
        Assert.Equal([0x80_0000UL, 0x90_0000UL, 0x80_0000UL], devices.Select(d => rig.Physical(d, 0)!.Value));
        rig.SubmitAndWait((0x11UL, 0UL));
        Assert.Equal([0x90_0000UL, 0x90_0000UL, 0x90_0000UL], devices.Select(d => rig.Physical(d, 0)!.Value));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AnAbsentContextIsCachedInCachingModeOnly(bool cachingMode)
    {
        using Rig rig = new(new() { CachingMode = cachingMode });
        rig.Enable();
        Assert.Null(rig.Physical(Disk, 0));
        rig.Map(rig.Attach(Disk, 1), 3, 0, 0x80_0000);
        Assert.Equal(cachingMode ? null : 0x80_0000UL, rig.Physical(Disk, 0));
        rig.SubmitAndWait((0x31 | (ulong)Disk << 32, 0UL));
        Assert.Equal(0x80_0000UL, rig.Physical(Disk, 0));
    }

    // Seen failing: a tag of the domain alone: the second try of every absent requester was granted the page that is
    // cached for domain 0.
    [Theory]
    [InlineData("no root entry", false)]
    [InlineData("no context entry", false)]
    [InlineData("no context entry", true)]
    [InlineData("reserved bits", false)]
    [InlineData("no such width", false)]
    [InlineData("no such width", true)]
    public void ACachedRefusalMatchesNoPageOfDomainZero(string entry, bool faultsDisabled)
    {
        const ushort Absent = 0x0130;
        using Rig rig = new(new() { CachingMode = true, CompressFaults = false, FaultRecords = 64 });
        ulong table = rig.Attach(Disk, 0);
        rig.Map(table, 3, 0x5000, 0x80_0000);
        rig.Map(table, 3, 0x20_0000, 0xA0_0000, level: 1);
        if (entry != "no root entry")
        {
            rig.Attach(Absent, 0, table: table);
            ulong context = rig.ContextAt(Absent);
            ulong low = entry == "no context entry" ? 0 : table | (entry == "reserved bits" ? 0x801UL : 1);
            rig.Poke(context, low | (faultsDisabled ? 2UL : 0));
            if (entry == "no such width") { rig.Poke(context + 8, 7); }
        }
        rig.Enable();
        Assert.Equal(0x80_0000UL, rig.Physical(Disk, 0x5000));
        Assert.Equal(0xA0_0000UL, rig.Physical(Disk, 0x20_0000));
        for (int again = 0; again < 3; again++)
        {
            Assert.Null(rig.Physical(Absent, 0x5000));
            Assert.Null(rig.Physical(Absent, 0x20_0000));
        }
        UnitCounters now = rig.Unit.Counters;
        Assert.Equal(faultsDisabled ? (0L, 6L) : (6L, 0L), (now.FaultsRecorded, now.FaultsSuppressed));
        Assert.Equal(0x80_0000UL, rig.Physical(Disk, 0x5000));
    }

    // Seen failing: a tag of the domain alone: the device was given a page that another entry of its domain translates.
    [Theory]
    [InlineData(0)]
    [InlineData(9)]
    public void APassThroughContextMatchesNoPage(ushort domain)
    {
        using Rig rig = new();
        rig.Map(rig.Attach(Disk, domain), 3, 0x5000, 0x80_0000);
        rig.Attach(0x0048, domain, lowBits: 2 << 2);
        rig.Enable();
        for (int again = 0; again < 3; again++)
        {
            Assert.Equal(0x80_0000UL, rig.Physical(Disk, 0x5000));
            Assert.Equal(0x5000UL, rig.Physical(0x0048, 0x5000));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void SettingTheRootTableEmptiesTheCachesOnlyWhereTheUnitSaysSo(bool invalidates)
    {
        using Rig rig = new(new() { RootTableSetInvalidates = invalidates });
        rig.Map(rig.Attach(Disk, 1), 3, 0, 0x80_0000);
        rig.Enable();
        Assert.Equal(0x80_0000UL, rig.Physical(Disk, 0));
        rig.Registers.Write64(0x20, rig.Table());
        rig.Registers.Write32(0x18, 0xC400_0000);
        Assert.Equal(invalidates ? null : 0x80_0000UL, rig.Physical(Disk, 0));
    }

    [Fact]
    public void CountersTellHitsFromMisses()
    {
        using Rig rig = new();
        rig.Map(rig.Attach(Disk, 1), 3, 0, 0x80_0000);
        rig.Enable();
        for (int i = 0; i < 5; i++) { rig.Physical(Disk, 0x10); }
        Assert.Null(rig.Physical(Disk, 0x5000));
        Assert.Equal((4L, 2L, 1L), (rig.Port.Hits, rig.Port.Misses, rig.Port.Refused));
        Assert.Equal((4L, 2L, 1L), (rig.Unit.Counters.Hits, rig.Unit.Counters.Misses, rig.Unit.Counters.Refused));
    }
}
