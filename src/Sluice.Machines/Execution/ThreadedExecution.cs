using System.Diagnostics;

namespace Sluice.Machines;

/// <summary>
/// A background thread per agent and per periodic timer. An idle agent spins for a moment, then sleeps until it is
/// woken.
/// </summary>
internal sealed class ThreadedExecution : Execution
{
    private const long PerSecond = 1_000_000_000;
    private readonly Lock _lock = new();
    private readonly List<ThreadAgent> _agents = [];
    private readonly long _start = Stopwatch.GetTimestamp();
    private readonly long _spinTicks;
    private volatile bool _stopping;

    [ThreadStatic]
    private static uint t_turns;

    public ThreadedExecution(TimeSpan spin)
    {
        _spinTicks = (long)(spin.TotalSeconds * Stopwatch.Frequency);
        StartTimerAgent(Add(new ThreadAgent(this, "timers", () => RunTimer(Timers), Timers)));
    }

    public override long Nanoseconds
    {
        get
        {
            long ticks = Stopwatch.GetTimestamp() - _start;
            return Stopwatch.Frequency == PerSecond ? ticks : (long)((Int128)ticks * PerSecond / Stopwatch.Frequency);
        }
    }

    /// <summary>
    /// A pause; now and then the rest of the time slice, because the thread waited for may need this processor.
    /// </summary>
    public override void Relax()
    {
        if ((++t_turns & 15) == 0) { Thread.Yield(); } else { Thread.SpinWait(10); }
    }

    public override Agent AddAgent(string name, Func<bool> step) =>
        Add(new ThreadAgent(this, name, step, null));

    protected override IDisposable Start(PlatformTimer timer)
    {
        TimerQueue own = new();
        own.Add(timer, Nanoseconds + timer.Period);
        return new OwnThread(timer, Add(new ThreadAgent(this, timer.Name, () => RunTimer(own), own) { Spins = false }));
    }

    private bool RunTimer(TimerQueue timers)
    {
        long now = Nanoseconds;
        if (timers.TakeDue(now) is not { } timer) { return false; }
        Run(timers, timer, now);
        return true;
    }

    private ThreadAgent Add(ThreadAgent agent)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_stopping, this);
            _agents.Add(agent);
        }
        try { agent.Start(); }
        catch
        {
            // The system had no thread for it; nobody is to wait for one.
            lock (_lock) { _agents.Remove(agent); }
            throw;
        }
        return agent;
    }

    public override void Dispose()
    {
        ThreadAgent[] agents;
        lock (_lock)
        {
            _stopping = true;
            agents = [.. _agents];
        }
        foreach (ThreadAgent agent in agents) { agent.Wake(); }
        foreach (ThreadAgent agent in agents) { agent.Dispose(); }
    }

    /// <summary>Until the next timer is due, at most a second: a lost wake then costs a second, not for ever.</summary>
    private TimeSpan UntilNextTimer(TimerQueue timers)
    {
        // Waits are in whole milliseconds; a shorter one would return at once, again and again, on a processor that
        // somebody else needs.
        const long PerMillisecond = 1_000_000;
        long nanoseconds = Math.Clamp(timers.NextDue - Nanoseconds, 0, PerSecond);
        return TimeSpan.FromMilliseconds((nanoseconds + PerMillisecond - 1) / PerMillisecond);
    }

    /// <summary>A timer and its thread. What another one does, or waits for, is nothing to it.</summary>
    private sealed class OwnThread(PlatformTimer timer, ThreadAgent agent) : IDisposable
    {
        public void Dispose()
        {
            try { timer.Dispose(); }
            finally { agent.End(); }
        }
    }

    /// <param name="owner">Whose thread it is.</param>
    /// <param name="name">Also the thread's.</param>
    /// <param name="step">One piece of work.</param>
    /// <param name="timers">What its sleep is bounded by, if it runs timers.</param>
    private sealed class ThreadAgent(ThreadedExecution owner, string name, Func<bool> step, TimerQueue? timers)
        : Agent(name, step, owner.OnCrash), IDisposable
    {
        private const int Idle = 0;
        private const int Awake = 1;
        private const int Asleep = 2;
        private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(10);
        private readonly AutoResetEvent _event = new(false);
        private Thread? _thread;
        private volatile bool _ended;
        private int _signal;

        // Odd while a step runs. Only this thread writes it.
        private long _turn;

        public bool Spins { get; init; } = true;

        private bool IsStopping => owner._stopping || _ended;

        public void Start()
        {
            _thread = new Thread(Run) { IsBackground = true, Name = Name };
            _thread.Start();
        }

        public override void Wake()
        {
            if (Interlocked.Exchange(ref _signal, Awake) == Asleep) { _event.Set(); }
        }

        /// <summary>
        /// It stops after the step it is in, and only then is it forgotten: until that the machine has to wait for it.
        /// </summary>
        public void End()
        {
            _ended = true;
            Wake();
        }

        public void Dispose()
        {
            if (_thread == Thread.CurrentThread) { return; }
            if (!_thread!.Join(StopLimit))
            {
                throw new TimeoutException($"{Name} does not stop; its machine's memory is kept");
            }
            _event.Dispose();
        }

        private void Run()
        {
            RunSteps();
            if (!_ended) { return; }
            lock (owner._lock) { owner._agents.Remove(this); }
        }

        private void RunSteps()
        {
            while (!IsStopping)
            {
                // The exchange is a full fence: whoever wakes us after it is seen below, whoever woke us before it has
                // published its work to the step.
                Interlocked.Exchange(ref _signal, Idle);
                while (Turn())
                {
                    if (IsStopping) { return; }
                }
                if (!SpinForWork()) { Sleep(); }
            }
        }

        private bool Turn()
        {
            Volatile.Write(ref _turn, _turn + 1);
            bool more = RunOne();
            Volatile.Write(ref _turn, _turn + 1);
            return more;
        }

        public override void WaitForStep()
        {
            if (_thread == Thread.CurrentThread) { return; }
            // For both threads, so that a step costs none: either its turn is seen here, or what was written before is
            // seen there.
            Interlocked.MemoryBarrierProcessWide();
            long turn = Volatile.Read(ref _turn);
            if ((turn & 1) == 0 || SpinWait.SpinUntil(() => Volatile.Read(ref _turn) != turn, StopLimit)) { return; }
            throw new TimeoutException($"{Name} is still in one step after {StopLimit.TotalSeconds} s");
        }

        private bool SpinForWork()
        {
            if (owner._spinTicks == 0 || !Spins) { return Volatile.Read(ref _signal) == Awake; }
            long start = Stopwatch.GetTimestamp();
            do
            {
                if (Volatile.Read(ref _signal) == Awake) { return true; }
                owner.Relax();
            }
            while (Stopwatch.GetTimestamp() - start < owner._spinTicks);
            return false;
        }

        private void Sleep()
        {
            if (Interlocked.CompareExchange(ref _signal, Asleep, Idle) != Idle) { return; }
            if (timers is not null) { _event.WaitOne(owner.UntilNextTimer(timers)); } else { _event.WaitOne(); }
        }
    }
}
