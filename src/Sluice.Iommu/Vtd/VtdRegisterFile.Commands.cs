using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <content>What registers do when written. All but the fault status under the register lock.</content>
internal sealed partial class VtdRegisterFile
{
    // Software changes one bit at a time and polls. Several at once are carried out in an order that never translates
    // by a root table older than the one just set.
    private void Command(uint value)
    {
        uint changed = value ^ _status;
        if ((value & VtdGlobal.SetRootTable) != 0) { SetRootTable(); }
        if ((changed & VtdGlobal.QueuedInvalidationEnable) != 0)
        {
            SetStatus(VtdGlobal.QueuedInvalidationEnable, value);
            _queue.Enable((value & VtdGlobal.QueuedInvalidationEnable) != 0);
        }
        if ((changed & VtdGlobal.TranslationEnable) != 0)
        {
            _unit.Root = _unit.Root.Enable((value & VtdGlobal.TranslationEnable) != 0);
            _queue.Drain();
            SetStatus(VtdGlobal.TranslationEnable, value);
        }
        // Inert, see InterruptRemapping. A write buffer flush has nothing to flush and is done before status is read;
        // the advanced fault log does not exist.
        if ((value & VtdGlobal.SetInterruptTable) != 0) { _status |= VtdGlobal.SetInterruptTable; }
        SetStatus(VtdGlobal.InterruptRemappingEnable, value);
        SetStatus(VtdGlobal.CompatibilityInterrupts, value);
    }

    private void SetRootTable()
    {
        _unit.Root = _unit.Root.Latch(_rootTable);
        if (_options.RootTableSetInvalidates)
        {
            _unit.Caches.Clear();
            _queue.Drain();
        }
        _status |= VtdGlobal.SetRootTable;
    }

    private void SetStatus(uint bit, uint value) => _status = (_status & ~bit) | (value & bit);

    // By register also while the queue is enabled: the specification calls that undefined, and dropping more is always
    // safe.
    private void InvalidateContexts()
    {
        VtdContextCommand command = new(_contextCommand);
        InvalidationGranularity done =
            _queue.InvalidateContexts(command.Requested, command.DomainId, command.Source, command.FunctionMask);
        _queue.Drain();
        _contextCommand = command.Completed(done).Word;
    }

    private void InvalidatePages()
    {
        VtdIotlbCommand command = new(_iotlbCommand);
        InvalidationGranularity done = _queue.InvalidatePages(
            command.Requested, command.DomainId, new(_invalidate & ~0xFFFUL), (int)(_invalidate & 0x3F));
        _queue.Drain();
        _iotlbCommand = command.Completed(done).Word;
    }

    // Clearing the queue error lets the queue go on at once, under the register lock.
    private void WriteFaultStatus(uint value)
    {
        _faults.WriteStatus(value);
        if ((value & VtdFaultStatus.QueueError) == 0) { return; }
        lock (_gate)
        {
            if (_faults.QueueStopped) { return; }
            _queue.ClearError();
            _queue.Run();
        }
    }
}
