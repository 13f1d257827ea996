namespace Sluice.Dma;

/// <summary>
/// Where refused DMAs arrive: counted always, explained as far as the queue has room, and delivered later from the
/// platform's timer. No device takes more than a quarter of the queue, so a noisy one cannot hide a quiet one.
/// </summary>
/// <remarks>
/// A fault is joined to the history at once, because history is short and a report that comes too late is wrong. That
/// costs tens of microseconds, which the bounded queue also bounds: a storm is counted, not explained.
/// </remarks>
internal sealed class FaultDesk : IFaultSink, IDisposable
{
    private const int MostPerDelivery = 1024;

    private readonly DmaSystem _system;
    private readonly FaultClassifier _classifier;
    private readonly int _capacity;
    private readonly Lock _lock = new();
    private readonly Lock _delivery = new();
    private readonly Queue<DmaReport> _waiting = new();
    private readonly Dictionary<PciAddress, int> _perDevice = [];
    private readonly IDisposable? _timer;
    private long _blocked;
    private long _lost;
    private long _dropped;

    internal FaultDesk(DmaSystem system, DmaOptions options)
    {
        (_system, _capacity) = (system, options.PendingReports);
        _classifier = new(system, options.RegionNames);
        if (options.Iommu != DmaIommu.None)
        {
            _timer = system.Platform.Clock.StartTimer(
                "DMA reports", options.ReportPeriodNanoseconds, () => Deliver());
        }
    }

    internal event Action<DmaReport>? Reported;

    internal long Blocked => Volatile.Read(ref _blocked);

    internal long Lost => Volatile.Read(ref _lost);

    internal long Dropped => Volatile.Read(ref _dropped);

    /// <inheritdoc/>
    public void OnFault(in DmaFault fault)
    {
        Interlocked.Increment(ref _blocked);
        if (!TryReserve(fault.Device))
        {
            Interlocked.Increment(ref _dropped);
            return;
        }
        DmaReport report = _classifier.Explain(fault);
        lock (_lock) { _waiting.Enqueue(report); }
    }

    /// <inheritdoc/>
    public void OnFaultsLost(ulong atLeast) => Interlocked.Add(ref _lost, (long)Math.Min(atLeast, long.MaxValue));

    internal int Deliver()
    {
        // One delivery at a time, and a subscriber that asks for another one gets nothing instead of itself.
        if (_delivery.IsHeldByCurrentThread) { return 0; }
        lock (_delivery)
        {
            int delivered = 0;
            while (delivered < MostPerDelivery)
            {
                DmaReport? report;
                lock (_lock)
                {
                    if (!_waiting.TryDequeue(out report)) { break; }
                    PciAddress device = report.Fault.Device;
                    int left = _perDevice[device] - 1;
                    if (left == 0) { _perDevice.Remove(device); }
                    else { _perDevice[device] = left; }
                }
                delivered++;
                _system.Verifier?.OnBlocked(report);
                foreach (Action<DmaReport> subscriber in Delegate.EnumerateInvocationList(Reported))
                {
                    try { subscriber(report); }
                    catch (Exception) { SubscriberFailures++; }
                }
            }
            return delivered;
        }
    }

    internal long SubscriberFailures { get; private set; }

    /// <inheritdoc/>
    public void Dispose()
    {
        _timer?.Dispose();
        Deliver();
    }

    private bool TryReserve(PciAddress device)
    {
        lock (_lock)
        {
            // A device of which nothing waits gets in even when several noisy ones filled the queue.
            int ours = _perDevice.GetValueOrDefault(device);
            if (ours >= _capacity / 4 || _waiting.Count >= (ours == 0 ? 2 * _capacity : _capacity)) { return false; }
            _perDevice[device] = ours + 1;
            return true;
        }
    }
}
