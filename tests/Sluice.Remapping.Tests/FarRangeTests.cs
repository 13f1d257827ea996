using Sluice.Remapping.Allocation;

namespace Sluice.Remapping.Tests;

/// <summary>Logical addresses far up in a wide address space: 2^25 windows of 4 GiB, of which few are in use.</summary>
public sealed class FarRangeTests
{
    private const ulong Window = 1UL << 32;
    private static readonly LogicalAddress Last = new((1UL << 57) - 1);
    private static readonly LogicalRange[] Holes =
    [
        TestPlatform.Interrupts, new(new(1UL << 50), new((1UL << 50) + (5 * Window) + 0x1FFF)),
        new(new(1UL << 56), Last),
    ];

    // Seen failing: windows above the first 64 (256 GiB) not looked at: no space, whatever was asked for.
    [Theory]
    [InlineData(38)]
    [InlineData(45)]
    [InlineData(56)]
    public void PagesCanBeMappedAnywhereThatAUnitOf57BitsTranslates(int bit)
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        PciAddress device = PciAddress.From(0, 2, 0);
        system.Attach(domain, device);
        PhysicalAddress[] pages = platform.Buffers(3);
        LogicalRange bounds = new(new(1UL << bit), new((1UL << bit) + 0x7FFF_FFFF));
        Assert.Equal(MapStatus.Mapped, domain.TryMapRange(pages, DmaAccess.Write, bounds, 21, out DomainRange range));
        Assert.True(bounds.Contains(range.Range) && range.Range.First.IsAligned(21), $"{range.Range}");
        Assert.Equal(pages[2], platform.Reach(device, range.Range.First + 0x2000, DmaAccess.Write));
        Assert.Equal(UnmapStatus.Unmapped, domain.UnmapRange(range, pages));
        Assert.Null(platform.Reach(device, range.Range.First + 0x2000, DmaAccess.Write));
    }

    // Seen failing (planted): a window that is no longer in use kept; what is reserved not looked at in a window that
    // is not in use.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void RangesAreDisjointAndKeepOffWhatIsReserved(int seed)
    {
        Random random = new(seed);
        LogicalAddressAllocator allocator = new(Last, Holes, maximumArenas: 4);
        List<LogicalRange> reserved = [.. Holes];
        List<LogicalSpace> live = [];
        int found = 0;
        for (int turn = 0; turn < 3_000; turn++)
        {
            if (turn % 500 == 250)
            {
                LogicalRange region = LogicalRange.FromLength(
                    new((ulong)random.NextInt64(1L << 51) & ~0xFFFUL), (ulong)random.Next(1, 1 << 20) << 12);
                Assert.Equal(!live.Exists(one => one.Taken.Overlaps(region)), allocator.TryReserve(region));
                reserved.Add(region);
            }
            if (random.Next(10) < (turn / 300 % 2 == 0 ? 6 : 2))
            {
                ulong first = random.Next(3) switch
                {
                    0 => (ulong)random.NextInt64(1L << 36),
                    1 => (1UL << 50) - (ulong)random.NextInt64(1L << 34),
                    _ => (ulong)random.Next(16) << 52,
                };
                LogicalRange bounds = new(new(first), new(first + (ulong)random.NextInt64(1L << 35) + 0x1000));
                ulong pages = 1 + (ulong)random.NextInt64(1L << random.Next(1, 22));
                int align = random.Next(2) == 0 ? 0 : random.Next(36);
                if (!allocator.TryAllocateRange(pages, bounds, align, out LogicalSpace space)) { continue; }
                found++;
                Assert.Equal(pages << 12, space.Range.Length);
                Assert.True(bounds.Contains(space.Range) && space.Range.First.IsAligned(Math.Max(12, align)));
                Assert.DoesNotContain(live, one => one.Taken.Overlaps(space.Taken));
                Assert.DoesNotContain(reserved, one => one.Overlaps(space.Range));
                live.Add(space);
            }
            else if (live.Count != 0)
            {
                int index = random.Next(live.Count);
                allocator.Free(live[index]);
                live.RemoveAt(index);
            }
        }
        Assert.InRange(found, 100, 3_000);
        foreach (LogicalSpace space in live) { allocator.Free(space); }
        // Nothing is left behind: as many far windows as at first can be had.
        LogicalRange high = new(new(1UL << 54), new((1UL << 56) - 1));
        Assert.True(allocator.TryAllocateRange(4 << 20, high, 32, out _) || allocator.TryAllocateRange(
            (4 << 20) - 2, high, 12, out _));
    }

    // Seen failing (planted): more windows taken for a range than may be in use.
    [Fact]
    public void ASearchThatFindsNothingEnds()
    {
        LogicalAddressAllocator allocator = new(Last, Holes, maximumArenas: 2);
        LogicalRange anywhere = new(default, new(ulong.MaxValue));
        Assert.False(allocator.TryAllocateRange(1UL << 45, anywhere, 12, out _));
        Assert.False(allocator.TryAllocateRange(8UL << 20, anywhere, 12, out _));
        Assert.False(allocator.TryAllocateRange(1, new(new(1UL << 56), new(ulong.MaxValue)), 12, out _));
        Assert.False(allocator.TryAllocateRange(3 << 20, new(new(1UL << 40), Last), 32, out _));
        // Not at the start of a window: the guard page would take another.
        Assert.True(allocator.TryAllocateRange(1, new(new((1UL << 40) + 0x1000), Last), 12, out LogicalSpace one));
        Assert.True(allocator.TryAllocateRange(1, new(new((1UL << 45) + 0x1000), Last), 12, out LogicalSpace two));
        // Both windows are in use: more finds room in them and nowhere else.
        Assert.False(allocator.TryAllocateRange(1, new(new(1UL << 46), Last), 12, out _));
        Assert.False(allocator.TryAllocateRange(1 << 20, new(new(1UL << 40), Last), 12, out _));
        Assert.True(allocator.TryAllocateRange(100, new(new(1UL << 40), Last), 12, out LogicalSpace three));
        Assert.Equal(one.Range.First.Value >> 32, three.Range.First.Value >> 32);
        allocator.Free(two);
        // Kept back for a while, until space runs short.
        Assert.True(allocator.TryAllocateRange(1, new(new((1UL << 46) + 0x1000), Last), 12, out _));
    }

    // Seen failing: the search given up at the first free place where too many windows would come into use, though the
    // next window alone would do.
    [Theory]
    [InlineData(0x8000_0000, 1 << 20, 12)]
    [InlineData(0x8000_0000, (1 << 20) - 2, 12)]
    [InlineData(0x8000_0000, (1 << 20) - 2, 13)]
    [InlineData(0x1000, 1 << 20, 13)]
    public void ARangeThatFitsOneWindowIsNotLaidAcrossTwoThatThereAreNot(ulong offset, int pages, int align)
    {
        LogicalAddressAllocator allocator = new(Last, [], maximumArenas: 1);
        LogicalRange bounds = new(new(3 * Window + offset), new(6 * Window - 1));
        Assert.True(allocator.TryAllocateRange((ulong)pages, bounds, align, out LogicalSpace space));
        Assert.Equal(4 * Window, space.Range.First.Value & ~(Window - 1));
        Assert.Equal(space.Taken.First.Value & ~(Window - 1), space.Taken.Last.Value & ~(Window - 1));
        // It was the only one that there may be.
        Assert.False(allocator.TryAllocateRange(1, new(new(5 * Window + 0x1000), bounds.Last), 12, out _));
    }

    // Seen failing: a region above what slots use taken for reserved and handed out.
    [Fact]
    public void AFarRegionIsReservedWhetherItsWindowIsInUseOrNot()
    {
        LogicalAddressAllocator allocator = new(Last, []);
        LogicalRange near = LogicalRange.FromLength(new(1UL << 44), 0x10_0000);
        LogicalRange far = LogicalRange.FromLength(new(1UL << 45), 0x10_0000);
        Assert.True(allocator.TryAllocateRange(1, near, 12, out LogicalSpace live));
        Assert.False(allocator.TryReserve(near));
        Assert.True(allocator.TryReserve(far));
        Assert.False(allocator.TryAllocateRange(1, far, 12, out _));
        allocator.Free(live);
        Assert.True(allocator.TryReserve(near));
        Assert.False(allocator.TryAllocateRange(1, near, 12, out _));
        Assert.True(allocator.TryAllocateRange(1, new(near.First, far.Last), 12, out live));
        Assert.Equal(near.Last + 1 + 0x1000, live.Range.First);
    }
}
