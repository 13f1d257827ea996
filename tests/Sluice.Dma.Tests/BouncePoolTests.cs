namespace Sluice.Dma.Tests;

/// <summary>The pool by itself: no page twice, none lost, runs where the device needs them.</summary>
public sealed class BouncePoolTests : IDisposable
{
    private static readonly LogicalAddress Below4G = new(0xFFFF_FFFF);
    private readonly TestPlatform _platform = new();

    public void Dispose() => _platform.Dispose();

    private BouncePool Pool(int pages, int most = 0, int areas = 1) =>
        new(_platform, new() { Pages = pages, MaximumPages = Math.Max(most, pages), Areas = areas }, Below4G);

    private static List<ulong> PagesOf(BounceHold hold)
    {
        List<ulong> pages = [];
        for (BouncePages cursor = new(hold); cursor.Left > 0;) { pages.Add(cursor.Next().Value); }
        return pages;
    }

    // Seen failing: free bits set beside free or quarantined ones, so that two transfers held one page.
    [Fact]
    public void WhatIsNotHeldCannotBeGiven()
    {
        using BouncePool pool = Pool(8);
        Assert.True(pool.TryTake(new(3), null, out BounceHold hold));
        pool.Give(hold);
        Assert.Throws<InvalidOperationException>(() => pool.Give(hold));
        Assert.True(pool.TryTake(new(3), null, out hold));
        pool.Quarantine(hold);
        Assert.Throws<InvalidOperationException>(() => pool.Give(hold));
        Assert.Equal((5, 3), (pool.Statistics.FreePages, pool.Statistics.QuarantinedPages));
        pool.Release(hold);
        Assert.Equal((8, 0), (pool.Statistics.FreePages, pool.Statistics.QuarantinedPages));
    }

    // Seen failing: pages that a failed gathering had taken not given back; Give that left the lowest word where it
    // was (pages lost); a search for runs that ignored the boundary; one that asked its own area alone.
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void NoPageIsHeldTwiceAndNoneIsLost(int areas)
    {
        Random random = new(areas);
        using BouncePool pool = Pool(300, areas: areas);
        HashSet<ulong> held = [];
        List<BounceHold> holds = [];
        int refused = 0;
        for (int i = 0; i < 4000; i++)
        {
            if (holds.Count > 0 && random.Next(2) == 0)
            {
                int index = random.Next(holds.Count);
                Assert.All(PagesOf(holds[index]), p => Assert.True(held.Remove(p)));
                pool.Give(holds[index]);
                holds.RemoveAt(index);
                continue;
            }
            int length = random.Next(1, 40);
            int boundary = random.Next(2) == 0 ? 64 : random.Next(18, 24);
            BounceNeed need = random.Next(2) == 0
                ? new(length)
                : new(length, true, 100, (uint)(length * 4096) - 200, boundary);
            if (!pool.TryTake(need, null, out BounceHold hold))
            {
                refused++;
                if (!need.Run) { Assert.True(length > 300 - held.Count); }
                continue;
            }
            List<ulong> pages = PagesOf(hold);
            Assert.Equal(length, pages.Count);
            Assert.All(pages, p => Assert.True(held.Add(p) && p < 1UL << 32));
            if (need.Run)
            {
                Assert.Equal(Enumerable.Range(0, length).Select(n => pages[0] + ((ulong)n << 12)), pages);
                Assert.True(boundary == 64 || (pages[0] + 100) >> boundary == (pages[^1] + 3900) >> boundary);
            }
            holds.Add(hold);
        }
        Assert.True(refused > 0);
        holds.ForEach(hold => pool.Give(hold));
        Assert.Equal((300, 300), (pool.Statistics.Pages, pool.Statistics.FreePages));
    }

    // Against every start there is. Seen failing: boundary ignored.
    [Fact]
    public void ARunIsFoundWhereverThereIsOne()
    {
        Random random = new(7);
        BounceArea area = new();
        PhysicalAddress first = new(0x0100_0000 + (5 << 12));
        for (int round = 0; round < 300; round++)
        {
            int pages = random.Next(1, 200);
            BounceBlock block = new(area, first, pages);
            bool[] free = new bool[pages];
            BounceHold all = default;
            Assert.Equal(pages, block.Take(pages + 5, ref all));
            double density = random.NextDouble();
            for (int i = 0; i < pages; i++)
            {
                free[i] = random.NextDouble() < density;
                if (free[i]) { block.TryGive(i, 1); }
            }
            int length = random.Next(1, 20);
            int boundary = random.Next(2) == 0 ? 64 : random.Next(13, 18);
            BounceNeed need = new(length, true, 50, (uint)(length * 4096) - 100, boundary);
            int expected = Enumerable.Range(0, Math.Max(0, pages - length + 1))
                .Where(i => !free.AsSpan(i, length).Contains(false) && need.Fits(first + ((ulong)i << 12)))
                .DefaultIfEmpty(-1).Last();
            BounceHold hold = default;
            Assert.Equal(expected >= 0, block.TryTakeRun(need, ref hold));
            if (expected >= 0)
            {
                BounceRuns runs = hold.GetEnumerator();
                Assert.True(runs.MoveNext());
                Assert.Equal((new BounceRun(block, expected, length), 0), (runs.Current, runs.Left));
            }
        }
    }

    [Fact]
    public void AnAreaThatIsShortTakesFromTheOthersAndAllComesBack()
    {
        using BouncePool pool = Pool(64, areas: 8);
        Assert.True(pool.TryTake(new(60), null, out BounceHold most));
        Assert.False(pool.TryTake(new(5), null, out _));
        Assert.True(pool.TryTake(new(4), null, out BounceHold rest));
        Assert.Equal(64, PagesOf(most).Concat(PagesOf(rest)).Distinct().Count());
        Assert.Equal(0, pool.Statistics.FreePages);
        pool.Give(most);
        pool.Give(rest);
        Assert.Equal(64, pool.Statistics.FreePages);
        Assert.True(pool.TryTake(new(64), null, out most));
        pool.Give(most);
    }

    [Fact]
    public void APoolGrowsWhenItMayAndSaysWhenItCannot()
    {
        using BouncePool pool = Pool(16, most: 200);
        Assert.True(pool.TryTake(new(100), null, out BounceHold hold));
        Assert.True(pool.Statistics.Pages is >= 100 and <= 200);
        Assert.True(pool.TryTake(new(64, true, 0, 64 << 12), null, out BounceHold run));
        Assert.Equal(Enumerable.Range(0, 64).Select(n => PagesOf(run)[0] + ((ulong)n << 12)), PagesOf(run));
        Assert.False(pool.TryTake(new(201), null, out _));
        Assert.False(pool.CouldEver(new(201)));
        Assert.False(pool.TryTake(new(100), null, out _));
        Assert.True(pool.CouldEver(new(100)));
        pool.Give(hold);
        pool.Give(run);
        Assert.True(pool.TryTake(new(180), null, out hold));
        pool.Give(hold);
    }

    [Fact]
    public void WhatTheMachineHasNoMemoryForIsNeverPossible()
    {
        using BouncePool pool = Pool(8, most: 1000);
        _platform.TestFrames.Limit(2);
        Assert.False(pool.TryTake(new(20), null, out _));
        Assert.False(pool.CouldEver(new(20)));
        Assert.True(pool.TryTake(new(10), null, out BounceHold hold));
        pool.Give(hold);
    }

    [Fact]
    public void AllFramesComeFromBelowTheReachAndGoBack()
    {
        int free = _platform.TestFrames.Count(FrameKind.Free);
        using (BouncePool pool = Pool(800, most: 1000, areas: 4))
        {
            Assert.True(pool.TryTake(new(900), null, out BounceHold hold));
            Assert.All(PagesOf(hold), p => Assert.Equal(FrameKind.Buffer, _platform.Frames.KindOf(new(p))));
            pool.Give(hold);
        }
        Assert.Equal(free, _platform.TestFrames.Count(FrameKind.Free));
    }

    [Fact]
    public void ThreadsTakeAndGiveWithoutEverSharingAPage()
    {
        using BouncePool pool = Pool(48, areas: 4);
        ulong low = TestPlatform.Low;
        int[] owners = new int[8 << 20 >> 12];
        Parallel.For(0, 6, thread =>
        {
            Random random = new(thread);
            for (int i = 0; i < 20_000; i++)
            {
                int pages = random.Next(1, 24);
                BounceNeed need = random.Next(4) == 0 ? new(Math.Min(pages, 6), true, 0, 4096) : new(pages);
                if (!pool.TryTake(need, null, out BounceHold hold)) { continue; }
                for (BouncePages cursor = new(hold); cursor.Left > 0;)
                {
                    Assert.Equal(0, Interlocked.Exchange(ref owners[(cursor.Next().Value - low) >> 12], thread + 1));
                }
                for (BouncePages cursor = new(hold); cursor.Left > 0;)
                {
                    Assert.Equal(thread + 1, Interlocked.Exchange(ref owners[(cursor.Next().Value - low) >> 12], 0));
                }
                pool.Give(hold);
            }
        });
        Assert.Equal(48, pool.Statistics.FreePages);
    }
}
