using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>
/// The register window: what each register shows, and what is kept of a write.
/// </summary>
/// <remarks>
/// VT-d specification 11.4. The fault registers have their own lock inside <see cref="FaultLog"/> and do not wait for a
/// drain; all others share this one. Protected memory, advanced fault log, page requests and performance registers read
/// zero.
/// </remarks>
internal sealed partial class VtdRegisterFile : WordRegisterFile
{
    private const ulong RootTableMask = ~0x3FFUL;
    private const ulong InterruptTableMask = ~0x7F0UL;
    private const ulong ContextCommandMask = 0xE000_0003_FFFF_FFFF;
    private const ulong ContextCommandHidden = 0x3_FFFF_0000;
    private const ulong IotlbCommandMask = 0xB003_FFFF_0000_0000;
    private const ulong InvalidateAddressMask = ~0xF80UL;

    // "VT-d" and the version of what is carried; then the capabilities, which say what the unit is built with.
    private const ulong StateKind = 0x5654_2D64_0000_0001;
    private const int HeadWords = 3;

    private readonly Lock _gate = new();
    private readonly VtdUnit _unit;
    private readonly VtdOptions _options;
    private readonly InvalidationQueue _queue;
    private readonly FaultLog _faults;
    private readonly uint _faultsFirst;
    private readonly uint _faultsEnd;
    private readonly uint _invalidateAddress;
    private uint _status;
    private ulong _rootTable;
    private ulong _interruptTable;
    private ulong _contextCommand;
    private ulong _iotlbCommand;
    private ulong _invalidate;

    internal VtdRegisterFile(VtdUnit unit, InvalidationQueue queue, FaultLog faults)
    {
        (_unit, _queue, _faults, _options) = (unit, queue, faults, unit.Options);
        _faultsFirst = _options.FaultRecordOffset;
        _faultsEnd = _faultsFirst + (uint)_options.FaultRecords * FaultRecord.Size;
        _invalidateAddress = _options.InvalidateAddressOffset;
    }

    /// <inheritdoc/>
    public override uint Length => _options.WindowLength;

    internal void Reset()
    {
        lock (_gate)
        {
            // Whoever was told to stop and is past that check ends under the old tables.
            _queue.Drain();
            _unit.Root = default;
            (_status, _rootTable, _interruptTable, _contextCommand, _iotlbCommand, _invalidate) = (0, 0, 0, 0, 0, 0);
            _queue.Reset();
            _faults.Reset();
            _unit.Caches.Clear();
        }
    }

    internal byte[] Save() { lock (_gate) { return Saved().ToBytes(); } }

    internal bool TryRestore(ReadOnlySpan<byte> state)
    {
        lock (_gate)
        {
            if (Saved().Match(state, HeadWords) is not { } words) { return false; }
            Carry(words);
            _unit.Caches.Clear();
            return true;
        }
    }

    internal UnitCounters AddTo(UnitCounters statistics)
    {
        lock (_gate)
        {
            return statistics with
            {
                ContextInvalidations = _queue.ContextInvalidations,
                IotlbInvalidations = _queue.IotlbInvalidations,
                Waits = _queue.Waits,
            };
        }
    }

    private StateWords Saved()
    {
        StateWords state = new();
        Carry(state);
        return state;
    }

    private void Carry(StateWords state)
    {
        _ = state.Carry(StateKind);
        _ = state.Carry(_options.Capability.Word);
        _ = state.Carry(_options.ExtendedCapability.Word);
        _unit.Root = new(state.Carry(_unit.Root.Word));
        (_status, _rootTable) = (state.Carry(_status), state.Carry(_rootTable));
        (_interruptTable, _contextCommand) = (state.Carry(_interruptTable), state.Carry(_contextCommand));
        (_iotlbCommand, _invalidate) = (state.Carry(_iotlbCommand), state.Carry(_invalidate));
        _queue.Carry(state);
        _faults.Carry(state);
    }

    /// <inheritdoc/>
    protected override ulong ReadWord(uint word)
    {
        if (TryReadFaultWord(word, out ulong value)) { return value; }
        lock (_gate) { return ReadOther(word); }
    }

    private ulong ReadOther(uint word) => word switch
    {
        VtdRegister.Version => _options.Version,
        VtdRegister.Capability => _options.Capability.Word,
        VtdRegister.ExtendedCapability => _options.ExtendedCapability.Word,
        VtdRegister.GlobalCommand => (ulong)_status << 32,
        VtdRegister.RootTableAddress => _rootTable,
        VtdRegister.ContextCommand => _contextCommand & ~ContextCommandHidden,
        VtdRegister.InvalidationQueueHead => _queue.Head,
        VtdRegister.InvalidationQueueTail => _queue.Tail,
        VtdRegister.InvalidationQueueAddress => _queue.Address,
        VtdRegister.InvalidationCompletionStatus - 4 => (ulong)_queue.CompletionStatus << 32,
        VtdRegister.InvalidationEventControl => _queue.Event.ControlAndData(),
        VtdRegister.InvalidationEventAddress => _queue.Event.Address.Value,
        VtdRegister.InvalidationQueueError => (ulong)_queue.Error,
        VtdRegister.InterruptRemappingTable => _interruptTable,
        _ when word == _invalidateAddress + 8 => _iotlbCommand,
        _ => 0,
    };

    /// <inheritdoc/>
    protected override void WriteWord(uint word, ulong value, ulong mask)
    {
        if (TryWriteFaultWord(word, value, mask)) { return; }
        lock (_gate)
        {
            switch (word)
            {
                case VtdRegister.GlobalCommand when (mask & LowHalf) != 0:
                    Command((uint)value);
                    break;
                case VtdRegister.RootTableAddress:
                    _rootTable = Merge(_rootTable, value, mask) & RootTableMask;
                    break;
                case VtdRegister.ContextCommand:
                    _contextCommand = Merge(_contextCommand, value, mask & ContextCommandMask);
                    if ((value & mask & VtdContextCommand.Busy) != 0) { InvalidateContexts(); }
                    break;
                case VtdRegister.InvalidationQueueTail:
                    if ((mask & LowHalf) != 0) { _queue.WriteTail(value); }
                    break;
                case VtdRegister.InvalidationQueueAddress:
                    _queue.WriteAddress(Merge(_queue.Address, value, mask));
                    break;
                case VtdRegister.InvalidationCompletionStatus - 4:
                    _queue.WriteCompletionStatus((uint)((value & mask) >> 32));
                    break;
                case VtdRegister.InvalidationEventControl:
                    // Data before control: a 64-bit write that unmasks sends the data it brings.
                    if ((mask & HighHalf) != 0) { _queue.Event.WriteData((uint)(value >> 32)); }
                    if ((mask & LowHalf) != 0) { _queue.Event.WriteControl((uint)value); }
                    break;
                case VtdRegister.InvalidationEventAddress when (mask & LowHalf) != 0:
                    _queue.Event.WriteAddress((uint)value);
                    break;
                case VtdRegister.InterruptRemappingTable:
                    _interruptTable = Merge(_interruptTable, value, mask) & InterruptTableMask;
                    break;
                case var _ when word == _invalidateAddress:
                    _invalidate = Merge(_invalidate, value, mask) & InvalidateAddressMask;
                    break;
                case var _ when word == _invalidateAddress + 8:
                    _iotlbCommand = Merge(_iotlbCommand, value, mask & IotlbCommandMask);
                    if ((value & mask & VtdIotlbCommand.Busy) != 0) { InvalidatePages(); }
                    break;
            }
        }
    }

    private bool TryReadFaultWord(uint word, out ulong value)
    {
        if (word >= _faultsFirst && word < _faultsEnd)
        {
            value = _faults.ReadRecord((int)(word - _faultsFirst) / FaultRecord.Size, high: (word & 8) != 0);
            return true;
        }
        value = word switch
        {
            VtdRegister.FaultStatus - 4 => (ulong)_faults.ReadStatus() << 32,
            VtdRegister.FaultEventControl => _faults.ReadEventControlAndData(),
            VtdRegister.FaultEventAddress => _faults.ReadEventAddress(),
            _ => 0,
        };
        return word is VtdRegister.FaultStatus - 4 or VtdRegister.FaultEventControl or VtdRegister.FaultEventAddress;
    }

    private bool TryWriteFaultWord(uint word, ulong value, ulong mask)
    {
        if (word >= _faultsFirst && word < _faultsEnd)
        {
            bool frees = (word & 8) != 0 && (value & mask & FaultRecord.ValidBit) != 0;
            if (frees) { _faults.FreeRecord((int)(word - _faultsFirst) / FaultRecord.Size); }
            return true;
        }
        switch (word)
        {
            case VtdRegister.FaultStatus - 4:
                WriteFaultStatus((uint)((value & mask) >> 32));
                return true;
            case VtdRegister.FaultEventControl:
                if ((mask & HighHalf) != 0) { _faults.WriteEventData((uint)(value >> 32)); }
                if ((mask & LowHalf) != 0) { _faults.WriteEventControl((uint)value); }
                return true;
            case VtdRegister.FaultEventAddress:
                if ((mask & LowHalf) != 0) { _faults.WriteEventAddress((uint)value); }
                return true;
            default:
                return false;
        }
    }
}
