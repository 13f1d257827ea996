using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>
/// Queued invalidation: IQA, IQH, IQT, the completion event, and what descriptors do.
/// </summary>
/// <remarks>
/// VT-d specification 6.5.2. Descriptors are executed inside the register write that makes them visible; the register
/// lock protects everything here. An invalidation has an effect at once, but a wait descriptor completes only after the
/// drain, so one drain serves any number of invalidations before it.
/// <para>Chosen where the specification leaves it open: a new IQA takes effect when the queue is next enabled;
/// disabling resets the head; clearing the error resumes at once, with the descriptor that caused it or what replaced
/// it; a device-TLB descriptor is malformed, because ECAP.DT is 0; an interrupt-entry descriptor is accepted and has
/// nothing to drop.</para>
/// </remarks>
internal sealed class InvalidationQueue(
    VtdOptions options, IPhysicalMemory memory, TranslationCache caches, DrainBarrier drain, FaultLog faults,
    IInterruptSink sink)
    : CommandRing(memory)
{
    private const ulong AddressMask = ~0xFF8UL;
    private const ulong OffsetMask = 0x7FFF0;
    private bool _drainDue;
    private QueueErrorInformation _found;

    internal EventRegisters Event { get; } = new(sink);

    internal ulong Address { get; private set; }

    /// <summary>ICS: bit 0, a wait descriptor with interrupt has completed.</summary>
    internal uint CompletionStatus { get; private set; }

    /// <summary>IQERCD, bits 3:0: why the queue stopped.</summary>
    internal QueueErrorInformation Error { get; private set; }

    internal long Waits { get; private set; }

    internal long ContextInvalidations { get; private set; }

    internal long IotlbInvalidations { get; private set; }

    protected override bool IsStopped => faults.QueueStopped;

    internal void WriteAddress(ulong value) => Address = value & AddressMask;

    internal void WriteTail(ulong value) => MoveTail(value & OffsetMask);

    internal void WriteCompletionStatus(uint value)
    {
        CompletionStatus &= ~(value & 1);
        if (CompletionStatus == 0) { Event.Withdraw(); }
    }

    internal void Enable(bool on) => Enable(on, new(Address & ~0xFFFUL), 0x1000u << (int)(Address & 7));

    internal void ClearError() => Error = QueueErrorInformation.None;

    /// <summary>Drops context entries, from the queue or by register.</summary>
    internal InvalidationGranularity InvalidateContexts(
        InvalidationGranularity granularity, ushort domainId, RequesterId source, int functionMask)
    {
        if (granularity == InvalidationGranularity.Reserved) { return granularity; }
        ContextInvalidations++;
        _drainDue = true;
        switch (granularity)
        {
            case InvalidationGranularity.Global:
                caches.DropContexts(0, 0);
                break;
            case InvalidationGranularity.Domain:
                caches.DropContexts(0, 0, CachedContext.DomainMask, (ulong)domainId << 8);
                break;
            case InvalidationGranularity.Selective:
                // The mask hides function bits from the top: 1 hides bit 2, 2 hides 2:1, 3 hides all three.
                // The domain id is not compared: dropping an entry too many is always allowed, one too few never.
                // Nor is the segment: all functions below one unit have the same.
                ulong compared = 0xFFFF & ~((0b111UL << (3 - functionMask)) & 0b111);
                caches.DropContexts(compared, ~(ulong)source.Value & compared);
                break;
        }
        return granularity;
    }

    /// <summary>
    /// Drops translations, from the queue or by register; gives what was done, reserved for an impossible request.
    /// </summary>
    internal InvalidationGranularity InvalidatePages(
        InvalidationGranularity granularity, ushort domainId, LogicalAddress address, int addressMask)
    {
        if (granularity == InvalidationGranularity.Selective)
        {
            if (!options.PageSelective) { granularity = InvalidationGranularity.Domain; }
            else if (addressMask > options.MaximumAddressMask) { granularity = InvalidationGranularity.Reserved; }
        }
        if (granularity == InvalidationGranularity.Reserved) { return granularity; }
        IotlbInvalidations++;
        _drainDue = true;
        switch (granularity)
        {
            case InvalidationGranularity.Global:
                caches.DropPages();
                break;
            case InvalidationGranularity.Domain:
                caches.DropPages(domainId);
                break;
            case InvalidationGranularity.Selective:
                caches.DropPages(domainId, address, VtdUnit.PageLog2 + addressMask);
                break;
        }
        return granularity;
    }

    /// <summary>Waits for every DMA that may have used what was dropped.</summary>
    internal void Drain()
    {
        drain.Wait();
        _drainDue = false;
    }

    internal void Carry(StateWords state)
    {
        CarryRing(state);
        Event.Carry(state);
        (Address, CompletionStatus) = (state.Carry(Address), state.Carry(CompletionStatus) & 1);
        Error = (QueueErrorInformation)state.Carry((uint)Error);
        _drainDue = state.Carry(_drainDue);
    }

    internal void Reset()
    {
        Clear();
        Event.Reset();
        (Address, CompletionStatus, Error) = (0, 0, QueueErrorInformation.None);
    }

    protected override bool Execute(ulong low, ulong high)
    {
        _found = Execute(new InvalidationDescriptor(low, high));
        return _found == QueueErrorInformation.None;
    }

    protected override void Ended(RingStop stop)
    {
        if (_drainDue) { Drain(); }
        if (stop == RingStop.None) { return; }
        Error = stop switch
        {
            RingStop.TailBeyondRing => QueueErrorInformation.TailBeyondQueue,
            RingStop.Unreachable => QueueErrorInformation.Unreachable,
            _ => _found,
        };
        faults.StopQueue();
    }

    private QueueErrorInformation Execute(in InvalidationDescriptor descriptor)
    {
        switch (descriptor.Type)
        {
            case InvalidationType.Wait when !descriptor.IsMalformed:
                return Complete(descriptor);
            case InvalidationType.Iotlb when !descriptor.IsMalformed:
                return Accept(InvalidatePages(
                    descriptor.Granularity, descriptor.DomainId, descriptor.Address, descriptor.AddressMask));
            case InvalidationType.ContextCache when !descriptor.IsMalformed:
                return Accept(InvalidateContexts(
                    descriptor.Granularity, descriptor.DomainId, descriptor.Source, descriptor.FunctionMask));
            case InvalidationType.InterruptEntryCache when !descriptor.IsMalformed:
                return QueueErrorInformation.None;
            case InvalidationType.Wait or InvalidationType.Iotlb:
            case InvalidationType.ContextCache or InvalidationType.InterruptEntryCache:
                return QueueErrorInformation.ReservedBits;
            default:
                return QueueErrorInformation.UnknownType;
        }
    }

    private static QueueErrorInformation Accept(InvalidationGranularity done) =>
        done == InvalidationGranularity.Reserved ? QueueErrorInformation.ReservedBits : QueueErrorInformation.None;

    private QueueErrorInformation Complete(in InvalidationDescriptor wait)
    {
        if (_drainDue) { Drain(); }
        if (wait.WritesStatus && !Memory.TryWrite32(wait.StatusAddress, wait.StatusData))
        {
            return QueueErrorInformation.Unreachable;
        }
        Waits++;
        if (!wait.RaisesInterrupt || CompletionStatus != 0) { return QueueErrorInformation.None; }
        CompletionStatus = 1;
        Event.Raise();
        return QueueErrorInformation.None;
    }
}
