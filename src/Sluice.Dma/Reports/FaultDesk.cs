using System.Diagnostics;

namespace Sluice.Dma;

/// <summary>
/// Where refused DMAs arrive: counted always, judged and kept as far as the ring has room, and told later from a timer
/// of their own or by whoever drains. No device takes more than a quarter of the ring, so a noisy one cannot hide a
/// quiet one.
/// </summary>
/// <remarks>
/// A fault is judged where its record is read, because history is short: a microsecond, nothing allocated, and what was
/// found is copied (<see cref="FaultFinding"/>), so that the report does not depend on when it is written. Words and
/// subscribers come later, on a thread that holds no lock. The ring is made once: a storm is counted, not explained.
/// </remarks>
internal sealed class FaultDesk : IFaultSink, IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);
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
    private long _blocked;
    private long _lost;
    private long _dropped;

    internal FaultDesk(DmaSystem system, DmaOptions options, bool remapped)
    {
        (_system, _capacity, _names) = (system, options.PendingReports, options.RegionNames);
        _classifier = new(system);
        _ring = new FaultFinding[remapped ? 2 * _capacity : 0];
        _perDevice = new(_ring.Length);
        if (!remapped) { return; }
        _timer = system.Platform.Clock.StartTimer(
            "DMA reports", options.ReportPeriodNanoseconds, () => Tell(out _));
    }

    internal event Action<DmaReport>? Reported;

    internal long Blocked => Volatile.Read(ref _blocked);

    internal long Lost => Volatile.Read(ref _lost);

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

    /// <summary>
    /// Tells of everything that was found before the call, on this thread or on the one that tells already, which is
    /// waited for. Bounded: by the ring, and by a second of waiting.
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
                try { here += TellHere(upTo); }
                finally { Volatile.Write(ref _teller, 0); }
                continue;
            }
            if (Stopwatch.GetElapsedTime(start) > Patience) { return false; }
            spin.SpinOnce();
        }
        return true;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _timer?.Dispose();
        Tell(out _);
    }

    private int TellHere(long upTo)
    {
        int told = 0;
        while (_taken < upTo)
        {
            Tell(Take());
            told++;
            Volatile.Write(ref _told, _taken);
        }
        return told;
    }

    private FaultFinding Take()
    {
        lock (_lock)
        {
            ref FaultFinding place = ref _ring[(int)(_taken % _ring.Length)];
            FaultFinding finding = place;
            place = default;
            _taken++;
            PciAddress device = finding.Fault.Device;
            int left = _perDevice[device] - 1;
            if (left == 0) { _perDevice.Remove(device); }
            else { _perDevice[device] = left; }
            return finding;
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
