using System.Diagnostics;

namespace Sluice.Dma;

/// <summary>
/// Where refused DMAs arrive: counted always, judged and kept as far as the ring has room, and told later from a timer
/// of their own or by whoever drains. The ring has twice <see cref="DmaOptions.PendingReports"/> places. No device
/// takes more than a quarter of that option, so a noisy one cannot hide a quiet one.
/// </summary>
/// <remarks>
/// A fault is judged where its record is read, because history is short: bounded work, nothing allocated, and what was
/// found is copied (<see cref="FaultFinding"/>), so that the report does not depend on when it is written. Words and
/// subscribers come later, on a thread that holds no lock. The ring is made once: a storm is counted, not explained.
/// </remarks>
internal sealed class FaultDesk : IFaultSink, IDisposable
{
    // The timer's callback: not running, running, or never again.
    private const int Idle = 0;
    private const int Telling = 1;
    private const int Ended = 2;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan PatienceAtTheEnd = TimeSpan.FromSeconds(10);
    private readonly DmaSystem _system;
    private readonly IPhysicalRegionNames? _names;
    private readonly FaultClassifier _classifier;
    private readonly int _capacity;
    private readonly Lock _lock = new();
    private readonly FaultFinding[] _ring;
    private readonly Dictionary<PciAddress, int> _perDevice;
    private readonly IDisposable? _timer;

    // The findings [told, taken) are being told, [taken, found) wait.
    private long _found;
    private long _taken;
    private long _told;
    private int _teller;
    private int _timerPhase;
    private long _blocked;
    private long _lost;
    private long _silencedStorms;
    private long _dropped;

    internal FaultDesk(DmaSystem system, DmaOptions options, bool remapped)
    {
        (_system, _capacity, _names) = (system, options.PendingReports, options.RegionNames);
        _classifier = new(system);
        _ring = new FaultFinding[remapped ? 2 * _capacity : 0];
        _perDevice = new(_ring.Length);
        if (!remapped) { return; }
        _timer = system.Platform.Clock.StartTimer(
            "DMA reports", options.ReportPeriodNanoseconds, OnTimer);
    }

    internal event Action<DmaReport>? Reported;

    internal long Blocked => Volatile.Read(ref _blocked);

    internal long Lost => Volatile.Read(ref _lost);

    internal long SilencedStorms => Volatile.Read(ref _silencedStorms);

    internal long Dropped => Volatile.Read(ref _dropped);

    /// <inheritdoc/>
    public void OnFault(in DmaFault fault)
    {
        Interlocked.Increment(ref _blocked);
        lock (_lock)
        {
            if (!TryReserve(fault.Device))
            {
                _dropped++;
                return;
            }
            ref FaultFinding place = ref _ring[(int)(_found % _ring.Length)];
            try { _classifier.Examine(fault, out place); }
            catch (Exception e) { _system.Failures.Add(e); }
            Volatile.Write(ref _found, _found + 1);
        }
    }

    /// <inheritdoc/>
    public void OnFaultsLost(ulong atLeast) => Interlocked.Add(ref _lost, (long)Math.Min(atLeast, long.MaxValue));

    /// <inheritdoc/>
    public void OnSilenceEnded(PciAddress device) => Interlocked.Increment(ref _silencedStorms);

    /// <summary>
    /// Tells of everything that was found before the call, on this thread or on the one that tells already, which is
    /// waited for. Who tells goes on with what is found meanwhile, because a subscriber that asks leaves it to the
    /// teller. Bounded: by twice the ring, and by a second of waiting.
    /// </summary>
    /// <param name="here">How many reports this thread told.</param>
    /// <returns>
    /// False when it is not all told: a subscriber on this very thread is asking, and hears of the rest when it
    /// returns; or one on another thread takes too long.
    /// </returns>
    internal bool Tell(out int here)
    {
        long upTo = Volatile.Read(ref _found);
        here = 0;
        int thread = Environment.CurrentManagedThreadId;
        long start = Stopwatch.GetTimestamp();
        SpinWait spin = default;
        while (Volatile.Read(ref _told) < upTo)
        {
            // The number of this thread stands there only if this thread wrote it.
            if (Volatile.Read(ref _teller) == thread) { return false; }
            if (Interlocked.CompareExchange(ref _teller, thread, 0) == 0)
            {
                try { here += TellHere(); }
                finally { Volatile.Write(ref _teller, 0); }
                continue;
            }
            if (Stopwatch.GetElapsedTime(start) > Patience) { return false; }
            spin.SpinOnce();
        }
        return true;
    }

    /// <summary>
    /// Tells of the rest. No unit is read any more. A subscriber that hangs on another thread is given up when nothing
    /// was told for a second, or after ten in all: what waits behind it is counted as dropped. Inside a subscriber the
    /// rest is told when it returns.
    /// </summary>
    public void Dispose()
    {
        // A callback that runs is not waited for: it may be what hangs. It ends its own timer.
        if (Interlocked.Exchange(ref _timerPhase, Ended) == Idle) { _timer?.Dispose(); }
        long start = Stopwatch.GetTimestamp();
        long told;
        do
        {
            told = Volatile.Read(ref _told);
            if (Tell(out _) || Volatile.Read(ref _teller) == Environment.CurrentManagedThreadId) { return; }
        }
        while (Volatile.Read(ref _told) != told && Stopwatch.GetElapsedTime(start) < PatienceAtTheEnd);
        DropWhatWaits();
    }

    private void OnTimer()
    {
        if (Interlocked.CompareExchange(ref _timerPhase, Telling, Idle) != Idle) { return; }
        try { Tell(out _); }
        finally
        {
            if (Interlocked.CompareExchange(ref _timerPhase, Idle, Telling) == Ended) { _timer!.Dispose(); }
        }
    }

    private int TellHere()
    {
        int told = 0;
        // At the end nothing is found any more, and nobody comes after this thread.
        while ((told < 2 * _ring.Length || Volatile.Read(ref _timerPhase) == Ended)
            && TryTake(out FaultFinding finding))
        {
            Tell(finding);
            told++;
            Volatile.Write(ref _told, Volatile.Read(ref _taken));
        }
        return told;
    }

    private bool TryTake(out FaultFinding finding)
    {
        finding = default;
        lock (_lock)
        {
            if (_taken == _found) { return false; }
            ref FaultFinding place = ref _ring[(int)(_taken % _ring.Length)];
            finding = place;
            place = default;
            _taken++;
            PciAddress device = finding.Fault.Device;
            int left = _perDevice[device] - 1;
            if (left == 0) { _perDevice.Remove(device); }
            else { _perDevice[device] = left; }
            return true;
        }
    }

    private void DropWhatWaits()
    {
        lock (_lock)
        {
            _dropped += _found - _taken;
            _taken = _found;
            Array.Clear(_ring);
            _perDevice.Clear();
        }
    }

    private void Tell(in FaultFinding finding)
    {
        try
        {
            DmaReport report = finding.ToReport(_system, _names);
            _system.Verifier?.OnBlocked(report);
            foreach (Action<DmaReport> subscriber in Delegate.EnumerateInvocationList(Reported))
            {
                try { subscriber(report); }
                catch (Exception e) { _system.Failures.Add(e); }
            }
        }
        catch (Exception e)
        {
            // Whoever names regions threw.
            _system.Failures.Add(e);
        }
    }

    private bool TryReserve(PciAddress device)
    {
        // A device of which nothing waits gets in even when several noisy ones filled the queue.
        int ours = _perDevice.GetValueOrDefault(device);
        if (ours >= _capacity / 4 || _found - _taken >= (ours == 0 ? _ring.Length : _ring.Length / 2)) { return false; }
        _perDevice[device] = ours + 1;
        return true;
    }
}
