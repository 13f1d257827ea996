using System.Collections.Concurrent;

namespace Sluice.Machines;

/// <summary>
/// Who runs when: one thread per agent, or one seeded scheduler for all of them. Devices, interrupts and timers are the
/// same code on both.
/// </summary>
internal abstract class Execution : IPlatformClock, IDisposable
{
    private readonly ConcurrentQueue<Exception> _failures = new();
    private Agent? _timerAgent;

    protected TimerQueue Timers { get; } = new();

    /// <summary>What agents, handlers and timers threw.</summary>
    public IReadOnlyCollection<Exception> Failures => _failures;

    /// <summary>Runs before each timer callback.</summary>
    public Action? BeforeTimer { get; set; }

    public abstract long Nanoseconds { get; }

    public abstract void Relax();

    /// <summary>Adds an agent; it runs from now on.</summary>
    public abstract Agent AddAgent(string name, Func<bool> step);

    /// <summary>Folds an event into the trace, where there is one.</summary>
    public virtual void Trace(ulong what) { }

    /// <inheritdoc/>
    public IDisposable StartTimer(string name, long periodNanoseconds, Action callback)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(periodNanoseconds);
        ArgumentNullException.ThrowIfNull(callback);
        PlatformTimer timer = new(name, periodNanoseconds, callback);
        Schedule(timer, periodNanoseconds);
        return timer;
    }

    /// <summary>Runs <paramref name="callback"/> once, as a timer.</summary>
    public void After(string name, long nanoseconds, Action callback) => Schedule(new(name, 0, callback), nanoseconds);

    public void AddFailure(Exception e) => _failures.Enqueue(e);

    /// <summary>An agent has thrown and will not run again.</summary>
    public void OnCrash(Agent agent, Exception e) => AddFailure(new MachineException($"{agent.Name}: {e.Message}", e));

    public abstract void Dispose();

    protected void StartTimerAgent(Agent agent) => _timerAgent = agent;

    /// <summary>Runs one due timer; what its callback throws is kept, and the timer goes on.</summary>
    protected bool RunTimer(long now)
    {
        try
        {
            return Timers.RunOne(now, BeforeTimer);
        }
        catch (Exception e)
        {
            AddFailure(e);
            return true;
        }
    }

    private void Schedule(PlatformTimer timer, long nanoseconds)
    {
        Timers.Add(timer, Nanoseconds + Math.Max(0, nanoseconds));
        _timerAgent?.Wake();
    }
}
