namespace Sluice.Dma;

// The end of an adapter. What was not given back is reported, and neither its frames nor its addresses are used again until
// somebody says that the device is quiet.
public sealed partial class DmaAdapter
{
    private int _leaks;

    /// <summary>
    /// Ends the device's DMA. Requests still waiting fail with <see cref="DmaFailure.Disposed"/>; lists and common buffers not
    /// given back become <see cref="DmaSystem.Leaks"/>. Harmless twice.
    /// </summary>
    public void Dispose()
    {
        _gate.Enter();
        bool first = !_closed;
        _closed = true;
        _gate.Exit();
        if (!first) { return; }
        while (true)
        {
            _gate.Enter();
            ScatterGatherWaiter? waiter = _firstWaiter;
            bool ours = waiter is not null && Remove(waiter);
            _gate.Exit();
            if (!ours) { break; }
            Answer(waiter!, default, DmaFailure.Disposed, default);
        }

        List<DmaLeak> leaks = [];
        foreach (Mapping mapping in _table.All)
        {
            if (mapping.Phase != MappingPhase.Live || !mapping.TryClose(mapping.Number)) { continue; }
            Withdraw(mapping);
            mapping.Quarantine();
            if (mapping.TryCapture(out MappingRecord record)) { leaks.Add(new(this, mapping, record)); }
        }
        _leaks = leaks.Count;
        _backend.Close(leaked: leaks.Count > 0);
        _system.Remove(this, leaks);
    }

    internal void ReleaseLeak(Mapping mapping)
    {
        if (mapping.Transfer.Mdl is { } mdl) { mdl.ReleaseChain(); }
        else
        {
            foreach (PhysicalAddress page in mapping.Common.Pages) { _platform.Frames.Release(page); }
        }
        (mapping.Transfer, mapping.Common) = (default, default);
        if (Interlocked.Decrement(ref _leaks) == 0) { _backend.Release(); }
    }

    private void Withdraw(Mapping mapping)
    {
        if (mapping.Transfer.Mdl is { } mdl) { mdl.QuarantineChain(); }
        else
        {
            foreach (PhysicalAddress page in mapping.Common.Pages) { _platform.Frames.Quarantine(page); }
        }
    }
}
