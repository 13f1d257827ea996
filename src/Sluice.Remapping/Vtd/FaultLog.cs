using Sluice.Formats.Vtd;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// Reads the fault records of one unit, and sees to it that a device that raises too many does not hide the others: its
/// reporting is switched off for a while, which is counted. Safe from any thread; one reads at a time.
/// </summary>
/// <remarks>
/// Work per interrupt is bounded; what is left then is read on the timer. The order matters: records are freed before
/// the overflow bit, because nothing is recorded while that is set (VT-d specification 7.2 and 11.4.14).
/// </remarks>
internal sealed class FaultLog
{
    private const int MaximumStorms = 64;
    private const uint ValidHalf = (uint)(FaultRecord.ValidBit >> 32);
    private const uint CompletionFaults = VtdFaultStatus.CompletionError | VtdFaultStatus.CompletionTimeout;
    private static readonly string[] Reasons =
        [.. Enumerable.Range(0, 256).Select(code => ((VtdFaultReason)code).Describe())];

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

    private void Drain()
    {
        for (int pass = 0; pass < _options.FaultPasses; pass++)
        {
            uint status = _registers.Read32(VtdRegister.FaultStatus);
            if ((status & VtdFaultStatus.QueueError) != 0) { _recoverQueue(); }
            if ((status & CompletionFaults) != 0)
            {
                _registers.Write32(VtdRegister.FaultStatus, status & CompletionFaults);
            }
            if ((status & (VtdFaultStatus.Pending | VtdFaultStatus.Overflow)) == 0) { return; }
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
        long now = _clock.Nanoseconds;
        for (int i = 0; i < _records; i++)
        {
            uint offset = _firstRecord + (uint)((first + i) % _records) * FaultRecord.Size;
            ulong high = _registers.Read64(offset + 8);
            if ((high & FaultRecord.ValidBit) == 0) { return; }
            FaultRecord record = new(_registers.Read64(offset), high);
            _registers.Write32(offset + 12, ValidHalf);
            Faults++;
            _sink.OnFault(new(
                new(_segment, record.Source), record.Page, 12, record.Access, record.Reason.ToCause(),
                (int)record.Reason, Reasons[(int)record.Reason & 0xFF], now));
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
        // What was refused meanwhile left no record; that it was must be known.
        ReportLoss();
    }

    private void ReportLoss()
    {
        Lost++;
        _sink.OnFaultsLost(1);
    }

    private readonly record struct Storm(RequesterId Device, long Until, bool Silenced, bool ToQuarantine);
}
