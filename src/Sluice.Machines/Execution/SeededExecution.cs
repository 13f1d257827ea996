namespace Sluice.Machines;

/// <summary>
/// All agents on the calling thread, in an order that only the seed decides. Time is virtual: it advances by a fixed
/// amount per step and jumps to the next timer when nothing else can run. The same seed and the same calls give the
/// same trace.
/// </summary>
internal sealed class SeededExecution(ulong seed, long nanosecondsPerStep) : Execution
{
    // Re-entrant: a step may wait (Relax), which runs other agents and timers, never one that is already on the stack.
    private readonly Lock _lock = new();
    private readonly List<SeededAgent> _agents = [];
    private SeededAgent[] _ready = new SeededAgent[8];
    private SplitMix _random = new(seed);
    private ulong _trace = 0xCBF2_9CE4_8422_2325;
    private long _now;

    public override long Nanoseconds => Volatile.Read(ref _now);

    /// <summary>Steps taken, and everything traced, in order: two equal runs have equal hashes.</summary>
    public ulong TraceHash => Volatile.Read(ref _trace);

    public override void Relax() => Step();

    public override void Post(IThreadPoolWorkItem work) => After("posted work", 0, work.Execute);

    public override Agent AddAgent(string name, Func<bool> step)
    {
        lock (_lock)
        {
            SeededAgent agent = new(this, name, step, _agents.Count);
            _agents.Add(agent);
            if (_ready.Length <= _agents.Count) { Array.Resize(ref _ready, _ready.Length * 2); }
            return agent;
        }
    }

    public override void Trace(ulong what)
    {
        lock (_lock) { _trace = SplitMix.Mix(_trace ^ what) + (ulong)_now; }
    }

    /// <summary>
    /// One step of one agent or timer; false when nothing was ready and no timer is set, and only time passed.
    /// </summary>
    public bool Step()
    {
        lock (_lock)
        {
            _now += nanosecondsPerStep;
            bool timerDue = Timers.NextDue <= _now;
            int ready = Gather();
            int choices = ready + (timerDue ? 1 : 0);
            if (choices == 0)
            {
                long due = Timers.NextDue;
                if (due == long.MaxValue) { return false; }
                _now = Math.Max(_now, due);
                RunTimerInTurn();
                return true;
            }
            int choice = choices == 1 ? 0 : _random.Below(choices);
            if (choice == ready) { RunTimerInTurn(); } else { _ready[choice].RunInTurn(); }
            return true;
        }
    }

    /// <summary>
    /// Runs what is ready while time stands still; false when <paramref name="limit"/> steps were not enough.
    /// </summary>
    public bool RunReady(int limit)
    {
        lock (_lock)
        {
            for (int i = 0; i < limit; i++)
            {
                int ready = Gather();
                if (ready == 0) { return true; }
                _ready[ready == 1 ? 0 : _random.Below(ready)].RunInTurn();
            }
            return false;
        }
    }

    /// <summary>Sets the time, with every timer on the way at its own time and what it wakes after it.</summary>
    public void AdvanceTo(long time, int limit)
    {
        lock (_lock)
        {
            for (int i = 0; i < limit && Timers.NextDue <= time; i++)
            {
                _now = Math.Max(_now, Timers.NextDue);
                RunTimerInTurn();
                RunReady(limit);
            }
            _now = Math.Max(_now, time);
        }
    }

    /// <summary>When the next timer is due; <see cref="long.MaxValue"/> when none is set.</summary>
    public long NextTimer => Timers.NextDue;

    public override void Dispose()
    {
        lock (_lock) { _agents.Clear(); }
    }

    protected override IDisposable Start(PlatformTimer timer)
    {
        Schedule(timer, timer.Period);
        return timer;
    }

    private int Gather()
    {
        int count = 0;
        foreach (SeededAgent agent in _agents)
        {
            if (agent.IsReady) { _ready[count++] = agent; }
        }
        return count;
    }

    private void RunTimerInTurn()
    {
        if (Timers.TakeDue(_now) is not { } timer) { return; }
        Trace(ulong.MaxValue);
        Run(Timers, timer, _now);
    }

    private sealed class SeededAgent(SeededExecution owner, string name, Func<bool> step, int index)
        : Agent(name, step, owner.OnCrash)
    {
        private int _awake = 1;
        private bool _running;

        public bool IsReady => !_running && Volatile.Read(ref _awake) != 0;

        public override void Wake() => Interlocked.Exchange(ref _awake, 1);

        public void RunInTurn()
        {
            owner.Trace((ulong)index);
            Interlocked.Exchange(ref _awake, 0);
            _running = true;
            bool more = RunOne();
            _running = false;
            if (more) { Wake(); }
        }
    }
}
