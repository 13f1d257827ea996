using System.Diagnostics;

namespace Sluice.Machines.Tests;

public sealed class ExecutionTests
{
    // Seen failing: the scheduler's generator seeded with the time.
    [Fact]
    public void TheSameSeedGivesTheSameTraceAndAnotherSeedAnother()
    {
        HashSet<ulong> traces = [];
        for (int seed = 1; seed <= 20; seed++)
        {
            (ulong trace, string order) = Run(seed);
            Assert.Equal((trace, order), Run(seed));
            Assert.True(traces.Add(trace));
        }
    }

    // Seen failing: posted to the thread pool, so that a stepped machine ran on two threads.
    [Fact]
    public void WhatIsPostedToASteppedMachineRunsInALaterStepOnItsThread()
    {
        using Machine machine = Fixtures.Stepped();
        Work work = new();
        machine.Clock.Post(work);
        Thread.Sleep(50);
        Assert.Equal(0, work.Runs);
        Assert.True(machine.RunUntil(() => work.Runs == 1, 100));
        Assert.Equal(Environment.CurrentManagedThreadId, work.Thread);
    }

    private sealed class Work : IThreadPoolWorkItem
    {
        public int Runs { get; private set; }

        public int Thread { get; private set; }

        public void Execute() => (Runs, Thread) = (Runs + 1, Environment.CurrentManagedThreadId);
    }

    [Fact]
    public void EveryAgentGetsItsTurn()
    {
        using Machine machine = Fixtures.Stepped();
        int[] turns = new int[6];
        for (int i = 0; i < turns.Length; i++)
        {
            int me = i;
            machine.AddAgent($"agent {i}", () => { turns[me]++; return true; });
        }
        machine.RunUntil(static () => false, 6000);
        Assert.All(turns, static t => Assert.InRange(t, 800, 1200));
    }

    [Fact]
    public void VirtualTimeJumpsToTheNextTimerWhenNothingElseCanRun()
    {
        using Machine machine = Fixtures.Stepped();
        List<long> ticks = [];
        using IDisposable timer = machine.Clock.StartTimer(
            "slow", 1_000_000_000, () => ticks.Add(machine.Clock.Nanoseconds));
        Assert.True(machine.RunUntil(() => ticks.Count == 3, 100));
        Assert.Equal([1, 2, 3], ticks.Select(static t => t / 1_000_000_000));
        timer.Dispose();
        machine.RunUntil(static () => false, 100);
        Assert.Equal(3, ticks.Count);
    }

    [Fact]
    public void TimePassesInEveryWaitSoEveryDeadlineEnds()
    {
        foreach (bool deterministic in (bool[])[true, false])
        {
            using Machine machine = Machine.Create(new() { MemoryBytes = 16 << 20, Deterministic = deterministic });
            long turns = 0;
            for (var limit = Deadline.In(machine.Clock, 2_000_000); !limit.HasPassed; limit.Relax()) { turns++; }
            Assert.InRange(turns, 1, 20_000_000);
        }
    }

    [Fact]
    public void ATimerThatThrowsGoesOn()
    {
        foreach (bool deterministic in (bool[])[true, false])
        {
            using Machine machine = Machine.Create(new() { MemoryBytes = 16 << 20, Deterministic = deterministic });
            int ticks = 0;
            using IDisposable timer = machine.Clock.StartTimer("bad", 100_000, () =>
            {
                Interlocked.Increment(ref ticks);
                throw new InvalidOperationException("no");
            });
            Assert.True(machine.RunUntil(() => Volatile.Read(ref ticks) >= 3));
            Assert.NotEmpty(machine.Failures);
        }
    }

    // Seen failing: Dispose without waiting for the running callback.
    [Fact]
    public void ADisposedTimerDoesNotRunAndARunningOneIsWaitedFor()
    {
        using Machine machine = Fixtures.Threaded();
        for (int i = 0; i < 30; i++)
        {
            bool inside = false;
            int ticks = 0;
            IDisposable timer = machine.Clock.StartTimer("t", 50_000, () =>
            {
                Volatile.Write(ref inside, true);
                for (int turn = 0; turn < 200; turn++) { machine.Clock.Relax(); }
                ticks++;
                Volatile.Write(ref inside, false);
            });
            Assert.True(machine.RunUntil(() => Volatile.Read(ref inside)));
            timer.Dispose();
            Assert.False(Volatile.Read(ref inside));
            Assert.True(ticks >= 1);
            int ticksThen = ticks;
            Thread.SpinWait(20_000);
            Assert.Equal(ticksThen, Volatile.Read(ref ticks));
        }
    }

    // Seen failing: one thread for all timers: the second one ran when the first came back.
    [Fact]
    public void ATimerThatHangsHoldsNoOtherBack()
    {
        using Machine machine = Fixtures.Threaded();
        using ManualResetEventSlim release = new();
        bool inside = false;
        using IDisposable slow = machine.Clock.StartTimer("slow", 1_000_000, () =>
        {
            Volatile.Write(ref inside, true);
            release.Wait(TimeSpan.FromSeconds(20));
        });
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref inside), 10_000));
        int ticks = 0;
        using IDisposable fast = machine.Clock.StartTimer("fast", 1_000_000, () => Interlocked.Increment(ref ticks));
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref ticks) >= 3, 10_000));
        // And what is done once, for devices.
        int once = 0;
        machine.Execution.After("once", 1_000, () => Interlocked.Increment(ref once));
        Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref once) == 1, 10_000));
        release.Set();
        Assert.Empty(machine.Failures);
    }

    // Seen failing: no timer while one is in its callback: the fast one never ran, and its ticks were 0.
    [Fact]
    public void OtherTimersRunInsideTheWaitOfOneAndNeverItself()
    {
        using Machine machine = Fixtures.Stepped();
        int depth = 0, deepest = 0, ticks = 0;
        bool over = false;
        using IDisposable fast = machine.Clock.StartTimer("fast", 10_000, () => ticks++);
        using IDisposable slow = machine.Clock.StartTimer("slow", 20_000, () =>
        {
            deepest = Math.Max(deepest, ++depth);
            int before = ticks;
            for (var limit = Deadline.In(machine.Clock, 1_000_000); !limit.HasPassed; limit.Relax()) { }
            Assert.InRange(ticks - before, 50, 200);
            depth--;
            over = true;
        });
        Assert.True(machine.RunUntil(() => over, 1_000_000));
        Assert.Equal(1, deepest);
        Assert.Empty(machine.Failures);
    }

    // Seen failing: a thread for each timer that ends with the machine: they piled up.
    [Fact]
    public void TheThreadOfADisposedTimerEnds()
    {
        using Machine machine = Fixtures.Threaded();
        int here = Process.GetCurrentProcess().Threads.Count;
        for (int i = 0; i < 200; i++) { machine.Clock.StartTimer("brief", 1_000_000, static () => { }).Dispose(); }
        Assert.True(SpinWait.SpinUntil(() => Process.GetCurrentProcess().Threads.Count < here + 50, 10_000));
    }

    // Seen failing: a thread forgotten when its timer is disposed: the memory was freed under the callback.
    [Fact]
    public void AMachineWaitsForATimerThatWasDisposedAndStillRuns()
    {
        Machine machine = Fixtures.Threaded();
        using ManualResetEventSlim release = new();
        using ManualResetEventSlim inside = new();
        IDisposable timer = machine.Clock.StartTimer("hangs", 1_000_000, () =>
        {
            inside.Set();
            release.Wait(TimeSpan.FromSeconds(60));
        });
        Assert.True(inside.Wait(10_000));
        Assert.Throws<TimeoutException>(timer.Dispose);
        Thread end = new(machine.Dispose) { IsBackground = true };
        end.Start();
        Assert.False(end.Join(500), "the callback may still read the machine's memory");
        Assert.True(machine.Memory.TryRead64(new(0x1000), out _));
        release.Set();
        Assert.True(end.Join(10_000));
    }

    // Seen failing: the same.
    [Fact]
    public void AMachineWhoseTimerDisposedItselfAndHangsKeepsItsMemory()
    {
        Machine machine = Fixtures.Threaded();
        using ManualResetEventSlim release = new();
        using ManualResetEventSlim inside = new();
        IDisposable? timer = null;
        timer = machine.Clock.StartTimer("hangs", 1_000_000, () =>
        {
            if (Volatile.Read(ref timer) is not { } own) { return; }
            own.Dispose();
            inside.Set();
            release.Wait(TimeSpan.FromSeconds(60));
        });
        Assert.True(inside.Wait(10_000));
        TimeoutException late = Assert.Throws<TimeoutException>(machine.Dispose);
        Assert.Contains("its machine's memory is kept", late.Message, StringComparison.Ordinal);
        Assert.True(machine.Memory.TryRead64(new(0x1000), out _));
        release.Set();
    }

    // Seen failing: Run clearing the signal after the steps instead of before them.
    [Fact]
    public void NoWakeIsLostBetweenThreads()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 16 << 20, IdleSpin = TimeSpan.Zero });
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        int asked = 0;
        int done = 0;
        probe.Work = () =>
        {
            if (Volatile.Read(ref done) != Volatile.Read(ref asked))
            {
                Interlocked.Increment(ref done);
                return true;
            }
            // Having looked, it dawdles: a wake that comes now must not be forgotten.
            Thread.SpinWait(50);
            return false;
        };
        for (int i = 1; i <= 20_000; i++)
        {
            Volatile.Write(ref asked, i);
            probe.Poke();
            Assert.True(machine.RunUntil(() => Volatile.Read(ref done) == i), $"wake {i} was lost");
        }
    }

    [Fact]
    public void DevicesOnThreadsMoveTheirBytesAndInterruptsArrive()
    {
        using Machine machine = Fixtures.Threaded();
        const int Devices = 4;
        const int Rounds = 2000;
        ProbeDevice[] probes = [.. Enumerable.Range(0, Devices).Select(_ => machine.Plug(new ProbeDevice()))];
        int[] seen = new int[Devices];
        for (int d = 0; d < Devices; d++)
        {
            int me = d;
            ProbeDevice probe = probes[d];
            PciFunction function = machine.Find(probe);
            PhysicalAddress frame = machine.Frame();
            byte[] page = new byte[4096];
            int round = 0;
            function.EnableBusMaster();
            function.EnableMsix(0, machine.ConnectInterrupt($"probe {d}", () =>
            {
                machine.Memory.TryRead64(frame + 0xFF8, out ulong last);
                machine.Memory.TryRead64(frame, out ulong first);
                // Data before its interrupt: what the handler sees is at least as new as the message.
                seen[me] = Math.Max(seen[me], (int)Math.Min(first, last));
            }));
            probe.Work = () =>
            {
                if (round == Rounds) { return false; }
                round++;
                for (int i = 0; i < page.Length; i += 8) { BitConverter.TryWriteBytes(page.AsSpan(i), (ulong)round); }
                probe.Port.Write(frame.Identity(), page);
                probe.Raise(0);
                return true;
            };
        }
        foreach (ProbeDevice probe in probes) { probe.Poke(); }
        Assert.True(machine.RunUntil(() => seen.All(static s => s == Rounds)));
        Assert.Equal(Devices * Rounds, machine.Interrupts.Delivered);
        Assert.Empty(machine.Failures);
        Assert.Empty(machine.Kernel.Check());
    }

    // Seen failing: Step called whether frozen or not.
    [Fact]
    public void AFrozenDeviceDoesNothingUntilItThaws()
    {
        using Machine machine = Fixtures.Stepped();
        ProbeDevice probe = machine.Plug(new ProbeDevice());
        int steps = 0;
        probe.Work = () => { steps++; return false; };
        machine.RunUntil(static () => false, 20);
        int before = steps;
        probe.Freeze();
        probe.Poke();
        machine.RunUntil(static () => false, 20);
        Assert.Equal(before, steps);
        probe.Thaw();
        machine.RunUntil(static () => false, 20);
        Assert.Equal(before + 1, steps);
    }

    private static (ulong Trace, string Order) Run(int seed)
    {
        using Machine machine = Fixtures.Stepped(seed);
        System.Text.StringBuilder order = new();
        for (int d = 0; d < 3; d++)
        {
            int me = d;
            ProbeDevice probe = machine.Plug(new ProbeDevice());
            PciFunction function = machine.Find(probe);
            function.EnableBusMaster();
            function.EnableMsix(0, machine.ConnectInterrupt("line", () => order.Append((char)('A' + me))));
            int left = 10;
            probe.Work = () =>
            {
                order.Append((char)('a' + me));
                probe.Raise(0);
                return --left > 0;
            };
        }
        using IDisposable timer = machine.Clock.StartTimer("t", 1000, () => order.Append('t'));
        machine.RunUntil(static () => false, 100);
        return (machine.TraceHash, order.ToString());
    }
}
