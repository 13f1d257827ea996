using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// Answers those whom no put of their own adapter answers: all of a domain whose unit died, and those who lack nothing
/// but memory of the machine. A death is found wherever a unit does not answer, inside whatever locks: it is noted
/// there, once for each domain, and answered here, from the platform's timer.
/// </summary>
internal sealed class WaiterDesk : IDisposable
{
    private readonly DmaSystem _system;
    private readonly IDisposable _timer;
    private int _died;

    internal WaiterDesk(DmaSystem system, RemappingSystem remapping, DmaOptions options)
    {
        _system = system;
        remapping.DomainDied += OnDomainDied;
        _timer = system.Platform.Clock.StartTimer("DMA waiters", options.ReportPeriodNanoseconds, OnTimer);
    }

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private void OnDomainDied(Domain domain)
    {
        // From now on whoever asks is told; then those who asked before.
        foreach (DmaAdapter adapter in _system.Adapters) { adapter.LookForEnd(); }
        Volatile.Write(ref _died, 1);
    }

    // A unit's tables take memory, and nobody tells when the machine has some again.
    private void OnTimer()
    {
        bool died = Interlocked.Exchange(ref _died, 0) != 0;
        DmaAdapter[] adapters = _system.AdapterArray;
        foreach (DmaAdapter adapter in adapters)
        {
            try
            {
                if (died) { adapter.AnswerAll(); }
                else { adapter.ServeStarving(); }
            }
            catch (Exception e) { _system.Failures.Add(e); }
        }
        if (!died) { return; }
        // Last: whoever hears of it finds nobody waiting.
        foreach (DmaAdapter adapter in adapters) { adapter.TellBlocked(); }
    }
}
