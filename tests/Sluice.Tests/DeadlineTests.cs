namespace Sluice.Tests;

/// <summary>A wait ends, whatever the clock does.</summary>
public sealed class DeadlineTests
{
    private const long Millisecond = 1_000_000;

    [Fact]
    public void ItPassesWhenTheTimeIsOver()
    {
        Clock clock = new() { PerTurn = 1_000 };
        int turns = 0;
        for (Deadline limit = Deadline.In(clock, Millisecond); !limit.HasPassed; limit.Relax()) { turns++; }
        Assert.Equal(1_000, turns);
        Assert.True(Deadline.In(clock, 0).HasPassed);
        Assert.True(Deadline.In(clock, -1).HasPassed);
    }

    // Seen failing: a deadline that is a moment of the clock: neither loop ever ended.
    [Theory]
    [InlineData(0)]
    [InlineData(-1_000)]
    public void AClockThatStandsStillOrGoesBackEndsItByTurns(long perTurn)
    {
        Clock clock = new() { PerTurn = perTurn };
        int turns = 0;
        for (Deadline limit = Deadline.In(clock, Millisecond); !limit.HasPassed; limit.Relax()) { turns++; }
        Assert.Equal(Deadline.MostIdleTurns, turns);
    }

    // Seen failing: idle turns counted against the latest time ever seen: an hour back, and the wait was short.
    [Fact]
    public void AClockThatWentBackOnceCountsFromThere()
    {
        Clock clock = new() { PerTurn = 1_000, Nanoseconds = 3_600_000 * Millisecond };
        Deadline limit = Deadline.In(clock, Millisecond);
        clock.Nanoseconds = 0;
        int turns = 0;
        for (; !limit.HasPassed; limit.Relax()) { turns++; }
        Assert.Equal(1_001, turns);
    }

    // Seen failing: the same: the jump ended the wait before anybody had looked again.
    [Theory]
    [InlineData(3_600_000 * Millisecond)]
    [InlineData(long.MaxValue)]
    public void AClockThatJumpsLeavesAnotherLook(long to)
    {
        Clock clock = new() { PerTurn = 0, Nanoseconds = -5 };
        Deadline limit = Deadline.In(clock, Millisecond);
        clock.Nanoseconds = to;
        limit.Relax();
        Assert.False(limit.HasPassed);
        clock.Nanoseconds = 0;
        limit.Relax();
        clock.Nanoseconds = Millisecond;
        limit.Relax();
        Assert.True(limit.HasPassed);
    }

    private sealed class Clock : IPlatformClock
    {
        public long PerTurn { get; init; }

        public long Nanoseconds { get; set; }

        public void Relax() => Nanoseconds += PerTurn;

        public IDisposable StartTimer(string name, long periodNanoseconds, Action callback) =>
            throw new NotSupportedException();
    }
}
