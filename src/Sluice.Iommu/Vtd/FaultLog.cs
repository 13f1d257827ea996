using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>
/// Fault recording: FSTS, the fault event, and the ring of fault records. Every refusal ends in one of its counters.
/// </summary>
/// <remarks>
/// VT-d specification 7.2 and 7.3. It has a lock of its own, apart from the register lock: a device may be refused, and
/// must get on with it, while a register write waits for that very device's DMA to drain.
/// </remarks>
internal sealed class FaultLog
{
    private const uint Conditions = VtdFaultStatus.WriteOneToClear | VtdFaultStatus.Pending;
    private readonly Lock _gate = new();
    private readonly FaultRecord[] _records;
    private readonly bool _compress;
    private readonly EventRegisters _event;
    private uint _status;
    private int _next;
    private int _first;
    private int _waiting;

    internal FaultLog(VtdOptions options, IInterruptSink sink)
    {
        _records = new FaultRecord[options.FaultRecords];
        _compress = options.CompressFaults;
        _event = new(sink);
    }

    internal long Recorded { get; private set; }

    internal long Lost { get; private set; }

    internal long Compressed { get; private set; }

    internal long Suppressed { get; private set; }

    internal long QueueErrors { get; private set; }

    /// <summary>Whether the invalidation queue is stopped by an error that software has not cleared.</summary>
    internal bool QueueStopped => (Volatile.Read(ref _status) & VtdFaultStatus.QueueError) != 0;

    /// <summary>Records one refusal, or counts why it is not recorded.</summary>
    internal void Record(in DmaRequest request, VtdFaultReason reason, bool faultsDisabled)
    {
        lock (_gate)
        {
            if (faultsDisabled && reason.IsQualified()) { Suppressed++; }
            else if ((_status & VtdFaultStatus.Overflow) != 0) { Lost++; }
            else if (_compress && HasWaiting(request.Source.Requester)) { Compressed++; }
            else if (_records[_next].IsValid)
            {
                Lost++;
                Set(VtdFaultStatus.Overflow);
            }
            else
            {
                Recorded++;
                _records[_next] = FaultRecord.For(request, reason);
                if (_waiting++ == 0) { _first = _next; }
                _next = _next + 1 == _records.Length ? 0 : _next + 1;
                Set(VtdFaultStatus.Pending);
            }
        }
    }

    /// <summary>Counts a refusal that the specification does not record.</summary>
    internal void Suppress() { lock (_gate) { Suppressed++; } }

    /// <summary>The invalidation queue has stopped.</summary>
    internal void StopQueue()
    {
        lock (_gate)
        {
            QueueErrors++;
            Set(VtdFaultStatus.QueueError);
        }
    }

    internal uint ReadStatus() { lock (_gate) { return _status | ((uint)_first << 8); } }

    internal void WriteStatus(uint value)
    {
        lock (_gate)
        {
            _status &= ~(value & VtdFaultStatus.WriteOneToClear);
            WithdrawIfServed();
        }
    }

    internal ulong ReadEventControlAndData() { lock (_gate) { return _event.ControlAndData(); } }

    internal ulong ReadEventAddress() { lock (_gate) { return _event.Address.Value; } }

    internal void WriteEventControl(uint value) { lock (_gate) { _event.WriteControl(value); } }

    internal void WriteEventData(uint value) { lock (_gate) { _event.WriteData(value); } }

    internal void WriteEventAddress(uint value) { lock (_gate) { _event.WriteAddress(value); } }

    internal ulong ReadRecord(int index, bool high)
    {
        lock (_gate) { return high ? _records[index].High : _records[index].Low; }
    }

    /// <summary>Frees a record: writing 1 to F clears it and leaves the rest readable.</summary>
    internal void FreeRecord(int index)
    {
        lock (_gate)
        {
            if (!_records[index].IsValid) { return; }
            _records[index] = _records[index] with { High = _records[index].High & ~FaultRecord.ValidBit };
            if (--_waiting == 0) { _status &= ~VtdFaultStatus.Pending; }
            WithdrawIfServed();
        }
    }

    internal void Carry(StateWords state)
    {
        lock (_gate)
        {
            _status = state.Carry(_status);
            _next = (int)(state.Carry((uint)_next) % (uint)_records.Length);
            _first = (int)(state.Carry((uint)_first) % (uint)_records.Length);
            _waiting = 0;
            foreach (ref FaultRecord record in _records.AsSpan())
            {
                record = new(state.Carry(record.Low), state.Carry(record.High));
                if (record.IsValid) { _waiting++; }
            }
            _event.Carry(state);
        }
    }

    internal void Reset()
    {
        lock (_gate)
        {
            Array.Clear(_records);
            _event.Reset();
            (_status, _next, _first, _waiting) = (0, 0, 0, 0);
        }
    }

    internal UnitCounters AddTo(UnitCounters statistics)
    {
        lock (_gate)
        {
            return statistics with
            {
                FaultsRecorded = Recorded,
                FaultsLost = Lost,
                FaultsCompressed = Compressed,
                FaultsSuppressed = Suppressed,
                QueueErrors = QueueErrors,
            };
        }
    }

    // One event for the first condition; until software has cleared every condition, no other follows.
    private void Set(uint condition)
    {
        bool quiet = (_status & Conditions) == 0;
        _status |= condition;
        if (quiet) { _event.Raise(); }
    }

    private void WithdrawIfServed()
    {
        if ((_status & Conditions) == 0) { _event.Withdraw(); }
    }

    private bool HasWaiting(RequesterId source)
    {
        if (_waiting == 0) { return false; }
        foreach (ref readonly FaultRecord record in _records.AsSpan())
        {
            if (record.IsValid && record.Source == source) { return true; }
        }
        return false;
    }
}
