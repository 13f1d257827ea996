using System.Diagnostics;
using Sluice.Machines.Qtest;

namespace Sluice.Machines.Qemu;

/// <summary>
/// QEMU's virtual clock: it stands still until told to move. Here it follows real time, and each turn of a polling loop
/// pushes it ahead, so that waiting for a device's timer costs turns and not its full time. Safe from any thread.
/// </summary>
internal sealed class QemuClock(QtestClient client, Execution timers, long nanosecondsPerRelax) : IPlatformClock
{
    private readonly Lock _stepping = new();
    private readonly long _start = Stopwatch.GetTimestamp();
    private long _skipped;
    private long _machine;

    /// <summary>Real time since the start, plus what polling loops have skipped.</summary>
    public long Nanoseconds => (long)(Stopwatch.GetElapsedTime(_start).TotalMilliseconds * 1e6)
        + Interlocked.Read(ref _skipped);

    /// <summary>One step of the machine: one qtest command.</summary>
    public void Relax()
    {
        Interlocked.Add(ref _skipped, nanosecondsPerRelax);
        CatchUp();
    }

    /// <summary>Moves the machine's clock to ours; its timers fire on the way.</summary>
    public void CatchUp()
    {
        lock (_stepping)
        {
            long behind = Nanoseconds - _machine;
            if (behind <= 0) { return; }
            client.StepClock(behind);
            _machine += behind;
        }
    }

    /// <summary>On real time.</summary>
    public IDisposable StartTimer(string name, long periodNanoseconds, Action callback) =>
        timers.StartTimer(name, periodNanoseconds, callback);
}
