namespace Sluice.Remapping.Tests;

/// <summary>
/// Time that passes only when somebody waits for it or a test says so. Timers run inside <see cref="Advance"/>.
/// </summary>
internal sealed class TestClock : IPlatformClock
{
    private readonly List<TestTimer> _timers = [];
    private long _now;

    public long Nanoseconds => Interlocked.Read(ref _now);

    /// <summary>What a turn of a polling loop does beside passing a microsecond.</summary>
    public Action? OnRelax { get; set; }

    /// <summary>How much time passes in such a turn.</summary>
    public long PerTurn { get; set; } = 1_000;

    public int Relaxes { get; private set; }

    /// <summary>Called before each timer starts; may throw.</summary>
    public Action? OnStart { get; set; }

    /// <summary>Timers that run.</summary>
    public int Timers => _timers.Count;

    /// <summary>The clock jumps: no timer is due for it.</summary>
    public void Skip(long nanoseconds) => Interlocked.Add(ref _now, nanoseconds);

    public void Relax()
    {
        Relaxes++;
        Interlocked.Add(ref _now, PerTurn);
        OnRelax?.Invoke();
    }

    public void Advance(long nanoseconds)
    {
        long end = Nanoseconds + nanoseconds;
        while (true)
        {
            TestTimer? next = _timers.Where(timer => timer.Due <= end).MinBy(timer => timer.Due);
            if (next is null) { break; }
            Interlocked.Exchange(ref _now, Math.Max(Nanoseconds, next.Due));
            next.Due += next.Period;
            next.Callback();
        }
        Interlocked.Exchange(ref _now, Math.Max(Nanoseconds, end));
    }

    public IDisposable StartTimer(string name, long periodNanoseconds, Action callback)
    {
        OnStart?.Invoke();
        TestTimer timer = new(this, periodNanoseconds, callback) { Due = Nanoseconds + periodNanoseconds };
        _timers.Add(timer);
        return timer;
    }

    private sealed class TestTimer(TestClock clock, long period, Action callback) : IDisposable
    {
        public long Due { get; set; }

        public long Period => period;

        public Action Callback => callback;

        public void Dispose() => clock._timers.Remove(this);
    }
}
