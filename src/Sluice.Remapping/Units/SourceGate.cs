namespace Sluice.Remapping.Units;

/// <summary>
/// Who may do DMA through one unit, and where to: sources pass only through {old, blocked, new}. Here are also those
/// whose faults are not reported for a while, and those that are blocked because they raised too many. Safe from any
/// thread.
/// </summary>
/// <param name="unit">The unit, for messages: only its text is used.</param>
/// <param name="life">Whether it still answers.</param>
/// <param name="table">Its table.</param>
internal sealed class SourceGate(object unit, UnitLife life, ISourceTable table) : IFaultAnswer
{
    private readonly Lock _one = new();
    private readonly HashSet<SourceId> _silenced = [];
    private readonly HashSet<SourceId> _quarantined = [];
    private readonly Dictionary<SourceId, ushort> _attached = [];

    /// <summary>The sources that raised too many faults, in order.</summary>
    public SourceId[] Quarantined
    {
        get
        {
            lock (_one) { return [.. _quarantined.OrderBy(static source => source.Number)]; }
        }
    }

    /// <inheritdoc cref="IUnitDriver.Attach"/>
    public void Attach(SourceId source, AddressSpace space)
    {
        lock (_one)
        {
            if (life.IsDead) { throw life.Failed("attaching a device"); }
            ThrowIfQuarantined(source);
            if (!table.TryPrepare(source))
            {
                throw new RemappingException($"{unit}: no memory for the table that {source} is in");
            }
            Block(source);
            if (life.IsDead) { throw life.Failed("blocking a device"); }
            _attached[source] = space.Id;
            table.Publish(source, space, _silenced.Contains(source));
            if (table.Announce(source) && !life.IsDead) { return; }
            // It died meanwhile, perhaps before the entry was there to be taken away.
            table.BlockAll();
            throw life.Failed("attaching a device");
        }
    }

    /// <inheritdoc cref="IUnitDriver.Switch"/>
    public bool Switch(SourceId source, AddressSpace space)
    {
        lock (_one)
        {
            if (life.IsDead) { throw life.Failed("switching a device"); }
            ThrowIfQuarantined(source);
            if (!_attached.TryGetValue(source, out ushort old)
                || !table.TryReplace(source, space, _silenced.Contains(source)))
            {
                Attach(source, space);
                return false;
            }
            _attached[source] = space.Id;
            // By the old id: that is what copies of the old entry, and what was reached through it, are filed under.
            table.Forget(source, old);
            if (!life.IsDead) { return true; }
            table.BlockAll();
            throw life.Failed("switching a device");
        }
    }

    /// <inheritdoc cref="IUnitDriver.Detach"/>
    public void Detach(SourceId source)
    {
        lock (_one) { Block(source); }
    }

    /// <inheritdoc cref="IUnitDriver.EndQuarantine"/>
    public bool EndQuarantine(SourceId source)
    {
        lock (_one) { return _quarantined.Remove(source); }
    }

    /// <inheritdoc cref="IUnitDriver.ThrowIfQuarantined"/>
    public void ThrowIfQuarantined(SourceId source)
    {
        lock (_one)
        {
            if (!_quarantined.Contains(source)) { return; }
        }
        throw new RemappingException($"{source} raised too many faults and is in quarantine: it stays blocked");
    }

    /// <inheritdoc/>
    public bool TrySilence(SourceId source, bool silenced)
    {
        // The tables are being changed by this very thread.
        if (_one.IsHeldByCurrentThread) { return false; }
        lock (_one)
        {
            if (life.IsDead) { return true; }
            if (!table.TryPrepare(source)) { return false; }
            if (silenced) { _silenced.Add(source); }
            else { _silenced.Remove(source); }
            table.Silence(source, silenced);
            // A source without a domain may be cached as absent, under domain 0.
            table.Forget(source, _attached.GetValueOrDefault(source));
            return true;
        }
    }

    /// <inheritdoc/>
    public bool TryQuarantine(SourceId source)
    {
        if (_one.IsHeldByCurrentThread) { return false; }
        lock (_one)
        {
            if (!life.IsDead && _quarantined.Add(source)) { Block(source); }
            return true;
        }
    }

    private void Block(SourceId source)
    {
        if (!_attached.Remove(source, out ushort domain)) { return; }
        table.Clear(source, _silenced.Contains(source));
        // Not confirmed means dead by now, and the domain keeps a dead unit in its list (Domain.Leave).
        table.Forget(source, domain);
    }
}
