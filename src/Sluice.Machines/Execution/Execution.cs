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
        return Start(new(name, periodNanoseconds, callback));
    }

    /// <inheritdoc/>
    public virtual void Post(IThreadPoolWorkItem work) =>
        ThreadPool.UnsafeQueueUserWorkItem(work, preferLocal: false);

    /// <summary>Runs <paramref name="callback"/> once, as a timer. It must be short: others wait for it.</summary>
    public void After(string name, long nanoseconds, Action callback) => Schedule(new(name, 0, callback), nanoseconds);

    public void AddFailure(Exception e) => _failures.Enqueue(e);

    /// <summary>An agent has thrown and will not run again.</summary>
    public void OnCrash(Agent agent, Exception e) => AddFailure(new MachineException($"{agent.Name}: {e.Message}", e));

    public abstract void Dispose();

    protected void StartTimerAgent(Agent agent) => _timerAgent = agent;

    /// <summary>
    /// Starts a periodic timer. None waits for another one's callback, except for what runs inside its own waits.
    /// </summary>
    protected abstract IDisposable Start(PlatformTimer timer);

    /// <summary>
    /// Runs a timer taken from <paramref name="timers"/>. What its callback throws is kept, and it goes on. A late one
    /// does not run twice to catch up.
    /// </summary>
    protected void Run(TimerQueue timers, PlatformTimer timer, long now)
    {
        try
        {
            BeforeTimer?.Invoke();
            timer.Run();
        }
        catch (Exception e) { AddFailure(e); }
        finally
        {
            if (timer.Period > 0 && !timer.IsDisposed) { timers.Add(timer, now + timer.Period); }
        }
    }

    protected void Schedule(PlatformTimer timer, long nanoseconds)
    {
        Timers.Add(timer, Nanoseconds + Math.Max(0, nanoseconds));
        _timerAgent?.Wake();
    }
}
