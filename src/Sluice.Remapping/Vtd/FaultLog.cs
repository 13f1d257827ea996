using Sluice.Formats.Vtd;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// Reads the fault records of one unit, and sees to it that a device that raises too many does not hide the others: its
/// reporting is switched off for a while, which is counted. Safe from any thread; one reads at a time.
/// </summary>
/// <remarks>
/// The unit names the first record (FSTS.FRI) only when there was none before, so while a reader frees records the name
/// grows old: the slot that it names is free, and the records that wait are behind it. A turn therefore begins there,
/// goes over every slot, and ends early only when the unit says that nothing waits. Turns go on until one finds
/// nothing; work per visit is bounded, and what is left then is read on the timer. Records are freed before the
/// overflow bit, because nothing is recorded while that is set: what is lost until it is cleared belongs to the loss
/// that is told with it (VT-d specification 7.2 and 11.4.14).
/// </remarks>
internal sealed class FaultLog
{
    private const int MaximumStorms = 64;
    private const uint ValidHalf = (uint)(FaultRecord.ValidBit >> 32);
    private const uint CompletionFaults = VtdFaultStatus.CompletionError | VtdFaultStatus.CompletionTimeout;
    private static readonly string[] Reasons =
        [.. Enumerable.Range(0, 256).Select(code => ((VtdFaultReason)code).Describe())];

    // How long to wait for another thread that reads: that is bounded but for what the sink does.
    private static readonly TimeSpan TurnLimit = TimeSpan.FromSeconds(10);

    private readonly RegisterWindow _registers;
    private readonly IPlatformClock _clock;
    private readonly RemappingOptions _options;
    private readonly IFaultSink _sink;
    private readonly ushort _segment;
    private readonly uint _firstRecord;
    private readonly int _records;
    private readonly Func<RequesterId, bool, bool> _trySilence;
    private readonly Func<RequesterId, bool> _tryQuarantine;
    private readonly Action _recoverQueue;
    private readonly FaultBudget _budget;
    private readonly Storm[] _storms = new Storm[MaximumStorms];
    private readonly Lock _one = new();
    private int _stormCount;

    // When the unit was last seen with nothing unread: whatever is read after that was refused after that.
    private long _quietAt;

    /// <summary>A reader of the records that <paramref name="capability"/> describes.</summary>
    /// <param name="platform">Time.</param>
    /// <param name="registers">The unit.</param>
    /// <param name="capability">Where and how many.</param>
    /// <param name="segment">The unit's PCI segment.</param>
    /// <param name="options">Budgets.</param>
    /// <param name="sink">Where faults go.</param>
    /// <param name="trySilence">Switches a device's reporting off (true) or on; false: not now, ask again.</param>
    /// <param name="tryQuarantine">Blocks a device for good; false: not now, ask again.</param>
    /// <param name="recoverQueue">Called when the unit says that its queue stopped.</param>
    public FaultLog(
        IPlatform platform, RegisterWindow registers, VtdCapability capability, ushort segment,
        RemappingOptions options, IFaultSink sink, Func<RequesterId, bool, bool> trySilence,
        Func<RequesterId, bool> tryQuarantine, Action recoverQueue)
    {
        (_clock, _registers, _segment, _options, _sink) = (platform.Clock, registers, segment, options, sink);
        (_trySilence, _tryQuarantine, _recoverQueue) = (trySilence, tryQuarantine, recoverQueue);
        (_firstRecord, _records) = (capability.FaultRecordOffset, capability.FaultRecords);
        _budget = new(options.FaultBurst, options.FaultsPerSecond);
    }

    public long Faults { get; private set; }

    public long Lost { get; private set; }

    public long Storms { get; private set; }

    /// <summary>Those of them whose silence is over.</summary>
    public long SilencedStorms { get; private set; }

    /// <summary>The fault interrupt: reads what is there.</summary>
    public void OnInterrupt()
    {
        // A wait inside one of the calls below may, on a machine that runs on one thread, deliver the next interrupt in
        // here.
        if (_one.IsHeldByCurrentThread) { return; }
        lock (_one) { Drain(); }
    }

    /// <summary>The timer: ends storms whose time is over, and reads what the last interrupt left.</summary>
    public void OnTimer()
    {
        if (_one.IsHeldByCurrentThread) { return; }
        lock (_one)
        {
            long now = _clock.Nanoseconds;
            for (int i = _stormCount - 1; i >= 0; i--) { Attend(i, now); }
            Drain();
        }
    }

    /// <summary>
    /// Reads what the unit has recorded by now, on this thread: every record that was there before the call, and those
    /// that come meanwhile as far as the bound goes. Not under the driver's tables lock, which an interrupt may wait
    /// for.
    /// </summary>
    /// <returns>
    /// False when this thread is reading already, another one does not come to an end in ten seconds, or the registers
    /// are gone: nothing more can be known. Also while a device is silenced: what it is refused is told of when the
    /// silence ends.
    /// </returns>
    public bool TryDrain() => TryVisit(ending: false);

    /// <summary>
    /// As <see cref="TryDrain"/>, for a unit that is left: every silence ends here.
    /// </summary>
    public void End() => TryVisit(ending: true);

    private bool TryVisit(bool ending)
    {
        if (_one.IsHeldByCurrentThread || !_one.TryEnter(TurnLimit)) { return false; }
        try
        {
            try { Drain(); }
            catch (Exception) { return false; }
            finally
            {
                for (; ending && _stormCount > 0; _stormCount--)
                {
                    if (_storms[_stormCount - 1].Silenced) { ReportSilence(_storms[_stormCount - 1].Device); }
                }
            }
            return !IsAnySilenced();
        }
        finally { _one.Exit(); }
    }

    private void Drain()
    {
        for (int turn = 0; turn < _options.FaultPasses; turn++)
        {
            // Before the look: what is recorded after the time and before the look is not ruled out.
            long now = _clock.Nanoseconds;
            uint status = _registers.Read32(VtdRegister.FaultStatus);
            if ((status & VtdFaultStatus.QueueError) != 0) { _recoverQueue(); }
            if ((status & CompletionFaults) != 0)
            {
                _registers.Write32(VtdRegister.FaultStatus, status & CompletionFaults);
            }
            if ((status & (VtdFaultStatus.Pending | VtdFaultStatus.Overflow)) == 0)
            {
                _quietAt = now;
                return;
            }
            if ((status & VtdFaultStatus.Pending) != 0) { ReadRecords(VtdFaultStatus.FirstRecord(status)); }
            if ((status & VtdFaultStatus.Overflow) != 0)
            {
                _registers.Write32(VtdRegister.FaultStatus, VtdFaultStatus.Overflow);
                ReportLoss();
            }
        }
    }

    private void ReadRecords(int first)
    {
        bool wasFree = false;
        for (int i = 0; i < _records; i++)
        {
            uint offset = _firstRecord + (uint)((first + i) % _records) * FaultRecord.Size;
            ulong high = _registers.Read64(offset + 8);
            if ((high & FaultRecord.ValidBit) == 0)
            {
                // Usually the end of what waits; one look tells, and is not taken again until something was found.
                if (!wasFree && (_registers.Read32(VtdRegister.FaultStatus) & VtdFaultStatus.Pending) == 0) { return; }
                wasFree = true;
                continue;
            }
            wasFree = false;
            FaultRecord record = new(_registers.Read64(offset), high);
            // After the record: whatever the refused DMA saw was so before this.
            long now = _clock.Nanoseconds;
            _registers.Write32(offset + 12, ValidHalf);
            Faults++;
            _sink.OnFault(new(
                new(_segment, record.Source), record.Page, 12, record.Access, record.Reason.ToCause(),
                (int)record.Reason, Reasons[(int)record.Reason & 0xFF], now) { SinceNanoseconds = _quietAt });
            if (!_budget.TrySpend(record.Source, now)) { BeginStorm(record.Source, now); }
        }
    }

    private void BeginStorm(RequesterId device, long now)
    {
        for (int i = 0; i < _stormCount; i++)
        {
            // Already known: a record from before the switch, or the switch is still to be thrown.
            if (_storms[i].Device == device) { return; }
        }
        if (_stormCount == MaximumStorms) { return; }
        Storms++;
        int most = _options.StormsUntilQuarantine;
        bool enough = _budget.CountStorm(device) >= most && most > 0;
        _storms[_stormCount++] = new(
            device, now + _options.StormNanoseconds, _trySilence(device, true),
            ToQuarantine: enough && !_tryQuarantine(device));
    }

    private void Attend(int index, long now)
    {
        Storm storm = _storms[index];
        if (!storm.Silenced)
        {
            _storms[index] = storm with { Silenced = _trySilence(storm.Device, true) };
            return;
        }
        if (storm.ToQuarantine)
        {
            _storms[index] = storm with { ToQuarantine = !_tryQuarantine(storm.Device) };
            return;
        }
        if (now < storm.Until || !_trySilence(storm.Device, false)) { return; }
        _storms[index] = _storms[--_stormCount];
        // What was refused meanwhile left no record: that it may have been must be known.
        ReportSilence(storm.Device);
    }

    private bool IsAnySilenced()
    {
        for (int i = 0; i < _stormCount; i++)
        {
            if (_storms[i].Silenced) { return true; }
        }
        return false;
    }

    // No loss: perhaps nothing was refused.
    private void ReportSilence(RequesterId device)
    {
        SilencedStorms++;
        _sink.OnSilenceEnded(new(_segment, device));
    }

    private void ReportLoss()
    {
        Lost++;
        _sink.OnFaultsLost(1);
    }

    private readonly record struct Storm(RequesterId Device, long Until, bool Silenced, bool ToQuarantine);
}
