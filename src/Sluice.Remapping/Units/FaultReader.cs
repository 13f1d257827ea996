namespace Sluice.Remapping.Units;

/// <summary>
/// Reads the fault records of one unit, whatever its kind, and tells of each. Safe from any thread; one reads at a
/// time.
/// </summary>
/// <remarks>
/// Turns over the records go on until one finds nothing; work per visit is bounded, and what is left then is read on the
/// timer.
/// </remarks>
internal sealed class FaultReader
{
    // How long to wait for another thread that reads: that is bounded but for what the sink does.
    private static readonly TimeSpan TurnLimit = TimeSpan.FromSeconds(10);

    private readonly IPlatformClock _clock;
    private readonly IFaultSink _sink;
    private readonly IFaultRecords _records;
    private readonly UnitLife _life;
    private readonly FaultStorms _storms;
    private readonly int _turns;
    private readonly Action _readNow;
    private readonly Action _drainIfFree;
    private readonly Lock _one = new();

    // When the unit was last seen with nothing unread: whatever is read after that was refused after that.
    private long _quietAt;

    /// <summary>A reader of one unit's records.</summary>
    /// <param name="host">Time, budgets, and where faults go.</param>
    /// <param name="life">Where the unit is given up when its registers are gone.</param>
    /// <param name="records">The records.</param>
    /// <param name="answer">What is done about a source that raises too many.</param>
    public FaultReader(UnitHost host, UnitLife life, IFaultRecords records, IFaultAnswer answer)
    {
        (_clock, _sink, _life, _records) = (host.Platform.Clock, host.Faults, life, records);
        _turns = host.Options.FaultPasses;
        _storms = new(host.Options, host.Faults, answer);
        // Made once: an interrupt allocates nothing.
        (_readNow, _drainIfFree) = (ReadNow, DrainIfFree);
    }

    /// <summary>Faults read.</summary>
    public long Faults { get; private set; }

    /// <summary>Faults whose records the unit could not keep: a lower bound.</summary>
    public long Lost { get; private set; }

    /// <summary>Storms so far.</summary>
    public long Storms => _storms.Begun;

    /// <summary>Those of them whose silence is over.</summary>
    public long SilencedStorms => _storms.Ended;

    /// <summary>The fault interrupt: reads what is there.</summary>
    public void OnInterrupt() => Attend(_drainIfFree);

    /// <summary>The timer: as <see cref="ReadNow"/>, for a unit that may be gone.</summary>
    public void OnTimer() => Attend(_readNow);

    /// <summary>Ends storms whose time is over, and reads what the last interrupt left.</summary>
    public void ReadNow()
    {
        if (_one.IsHeldByCurrentThread) { return; }
        lock (_one)
        {
            _storms.Attend(_clock.Nanoseconds);
            Drain();
        }
    }

    /// <summary>
    /// Reads what the unit has recorded by now, on this thread: every record that was there before the call, and those
    /// that come meanwhile as far as the bound goes. Not under a lock that silencing a source takes, which an interrupt
    /// may wait for.
    /// </summary>
    /// <returns>
    /// False when this thread is reading already, another one does not come to an end in ten seconds, or the registers
    /// are gone: nothing more can be known. Also while a device is silenced: what it is refused is told of when the
    /// silence ends.
    /// </returns>
    public bool TryDrain() => TryVisit(ending: false);

    /// <summary>As <see cref="TryDrain"/>, for a unit that is left: every silence ends here.</summary>
    public void End() => TryVisit(ending: true);

    /// <summary>A record was read. Only from inside <see cref="IFaultRecords.ReadTurn"/>.</summary>
    /// <param name="fault">What it says, and when it was read.</param>
    public void Report(in DmaFault fault)
    {
        Faults++;
        _sink.OnFault(fault with { SinceNanoseconds = _quietAt });
        _storms.OnFault(fault.Device, fault.Nanoseconds);
    }

    /// <summary>The unit could not keep a record. Only from inside <see cref="IFaultRecords.ReadTurn"/>.</summary>
    public void ReportLoss()
    {
        Lost++;
        _sink.OnFaultsLost(1);
    }

    // A wait inside one of the calls below may, on a machine that runs on one thread, deliver the next interrupt in
    // here.
    private void DrainIfFree()
    {
        if (_one.IsHeldByCurrentThread) { return; }
        lock (_one) { Drain(); }
    }

    private void Drain()
    {
        for (int turn = 0; turn < _turns; turn++)
        {
            // Before the look: what is recorded after the time and before the look is not ruled out.
            long now = _clock.Nanoseconds;
            if (_records.ReadTurn(this)) { continue; }
            _quietAt = now;
            return;
        }
    }

    private bool TryVisit(bool ending)
    {
        if (_one.IsHeldByCurrentThread || !_one.TryEnter(TurnLimit)) { return false; }
        try
        {
            try { Drain(); }
            catch (Exception) { return false; }
            finally
            {
                if (ending) { _storms.End(); }
            }
            return !_storms.IsAnySilenced;
        }
        finally { _one.Exit(); }
    }

    /// <summary>
    /// Reads faults. What that throws is the platform's to keep, unless the registers threw it: then the unit is given
    /// up, as with any other access, and nothing of it is read again.
    /// </summary>
    private void Attend(Action read)
    {
        if (_life.IsDead && _life.Cause is not null) { return; }
        try { read(); }
        catch (Exception e) when (!Answers())
        {
            _life.Die(e);
        }
    }

    private bool Answers()
    {
        try { return _records.Answers(); }
        catch (Exception) { return false; }
    }
}
