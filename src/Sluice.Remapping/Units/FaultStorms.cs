namespace Sluice.Remapping.Units;

/// <summary>
/// Sees to it that a device that raises too many faults does not hide the others: its reporting is switched off for a
/// while, which is counted, and after some such storms it is blocked, if the options say so. Bounded, allocates nothing
/// after a bus's first fault. Not safe from several threads.
/// </summary>
/// <param name="options">Budgets.</param>
/// <param name="sink">Is told when a silence ends.</param>
/// <param name="answer">Silences and blocks.</param>
internal sealed class FaultStorms(RemappingOptions options, IFaultSink sink, IFaultAnswer answer)
{
    private const int Maximum = 64;
    private readonly FaultBudget _budget = new(options.FaultBurst, options.FaultsPerSecond);
    private readonly Storm[] _storms = new Storm[Maximum];
    private int _count;

    /// <summary>Storms so far.</summary>
    public long Begun { get; private set; }

    /// <summary>Those of them whose silence is over.</summary>
    public long Ended { get; private set; }

    /// <summary>Whether a device is silenced now: what it is refused leaves no record.</summary>
    public bool IsAnySilenced
    {
        get
        {
            for (int i = 0; i < _count; i++)
            {
                if (_storms[i].Silenced) { return true; }
            }
            return false;
        }
    }

    /// <summary>A fault of a device was read.</summary>
    /// <param name="device">The device.</param>
    /// <param name="now">When.</param>
    public void OnFault(PciAddress device, long now)
    {
        if (!_budget.TrySpend(device.Requester, now)) { Begin(device, now); }
    }

    /// <summary>Now and then: ends storms whose time is over.</summary>
    /// <param name="now">The time.</param>
    public void Attend(long now)
    {
        for (int i = _count - 1; i >= 0; i--) { Attend(i, now); }
    }

    /// <summary>The unit is left: every silence ends here.</summary>
    public void End()
    {
        for (; _count > 0; _count--)
        {
            if (_storms[_count - 1].Silenced) { ReportSilence(_storms[_count - 1].Device); }
        }
    }

    private void Begin(PciAddress device, long now)
    {
        for (int i = 0; i < _count; i++)
        {
            // Already known: a record from before the switch, or the switch is still to be thrown.
            if (_storms[i].Device == device) { return; }
        }
        if (_count == Maximum) { return; }
        Begun++;
        int most = options.StormsUntilQuarantine;
        bool enough = _budget.CountStorm(device.Requester) >= most && most > 0;
        _storms[_count++] = new(
            device, now + options.StormNanoseconds, answer.TrySilence(device, true),
            ToQuarantine: enough && !answer.TryQuarantine(device));
    }

    private void Attend(int index, long now)
    {
        Storm storm = _storms[index];
        if (!storm.Silenced)
        {
            _storms[index] = storm with { Silenced = answer.TrySilence(storm.Device, true) };
            return;
        }
        if (storm.ToQuarantine)
        {
            _storms[index] = storm with { ToQuarantine = !answer.TryQuarantine(storm.Device) };
            return;
        }
        if (now < storm.Until || !answer.TrySilence(storm.Device, false)) { return; }
        _storms[index] = _storms[--_count];
        // What was refused meanwhile left no record: that it may have been must be known.
        ReportSilence(storm.Device);
    }

    // No loss: perhaps nothing was refused.
    private void ReportSilence(PciAddress device)
    {
        Ended++;
        sink.OnSilenceEnded(device);
    }

    private readonly record struct Storm(PciAddress Device, long Until, bool Silenced, bool ToQuarantine);
}
