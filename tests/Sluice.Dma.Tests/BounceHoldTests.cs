namespace Sluice.Dma.Tests;

/// <summary>The chain of runs that a transfer holds.</summary>
public sealed class BounceHoldTests
{
    private static readonly BounceArea[] Areas = [new(), new()];

    // Seen failing: a run that the last one touches kept apart; a link written at the new run instead of the one
    // before it; the tail's length not begun anew.
    [Fact]
    public void RunsComeInTheOrderTheyWereAddedAndNeighboursAreOne()
    {
        BounceBlock low = new(Areas[0], new(0x10_0000), 64);
        BounceBlock high = new(Areas[1], new(0x80_0000), 64);
        BounceHold hold = default;
        Assert.Equal([], RunsOf(hold));
        hold.Add(low, 7, 1);
        hold.Add(low, 8, 2);
        Assert.Equal([new(low, 7, 3)], RunsOf(hold));
        hold.Add(high, 10, 1);
        hold.Add(low, 11, 4);
        hold.Add(low, 2, 5);
        Assert.Equal([new(low, 7, 3), new(high, 10, 1), new(low, 11, 4), new(low, 2, 5)], RunsOf(hold));
        hold.Add(low, 7, 1);
        BounceRun[] expected = [new(low, 7, 3), new(high, 10, 1), new(low, 11, 4), new(low, 2, 6)];
        Assert.Equal(expected, RunsOf(hold));
        Assert.Equal(14, hold.Pages);
        Assert.Equal(
            expected.SelectMany(run => Enumerable.Range(run.First, run.Count).Select(run.Block.AddressOf)),
            PagesOf(hold));
    }

    // Another takes a page the moment its area has it back, and writes its own way on there. Seen failing: the way
    // to the next run read only when the pages were given back and the gate was left.
    [Fact]
    public void WhatIsGivenBackMayBeAnothersAtOnce()
    {
        BounceArea[] areas = [new(), new()];
        BounceHold mine = default;
        foreach (BounceArea area in areas)
        {
            area.Add(new(area == areas[0] ? 0x10_0000u : 0x80_0000u), 64);
            area.TakeSome(3, ref mine);
        }
        areas[0].TakeSome(4, ref mine);
        BounceRuns runs = mine.GetEnumerator();
        Assert.True(runs.MoveNext() && areas[0].Give(ref runs, released: false));

        BounceHold others = default;
        areas[0].TakeSome(2, ref others);
        areas[1].TakeSome(2, ref others);
        areas[0].TakeSome(1, ref others);
        Assert.True(areas[1].Give(ref runs, released: false));
        Assert.False(areas[0].Give(ref runs, released: false));
        Assert.Equal((61, 62), (areas[0].FreePages, areas[1].FreePages));
        Assert.Equal([2, 2, 1], RunsOf(others).Select(run => run.Count));
    }

    private static List<BounceRun> RunsOf(in BounceHold hold)
    {
        List<BounceRun> runs = [];
        foreach (BounceRun run in hold) { runs.Add(run); }
        return runs;
    }

    private static List<PhysicalAddress> PagesOf(in BounceHold hold)
    {
        List<PhysicalAddress> pages = [];
        for (BouncePages cursor = new(hold); cursor.Left > 0;) { pages.Add(cursor.Next()); }
        return pages;
    }
}
