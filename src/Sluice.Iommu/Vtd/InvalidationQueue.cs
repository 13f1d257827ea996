using Sluice.Formats.Vtd;

namespace Sluice.Iommu;

/// <summary>
/// Queued invalidation: IQA, IQH, IQT, the completion event, and the machine that executes descriptors.
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
    VtdOptions options, PhysicalMemory memory, Iotlb caches, DrainBarrier drain, FaultLog faults, IInterruptSink sink)
{
    private const ulong AddressMask = ~0xFF8UL;
    private const ulong OffsetMask = 0x7FFF0;
    private PhysicalAddress _base;
    private uint _bytes;
    private bool _drainDue;

    internal EventRegisters Event { get; } = new(sink);

    internal bool IsEnabled { get; private set; }

    internal ulong Address { get; private set; }

    internal ulong Head { get; private set; }

    internal ulong Tail { get; private set; }

    /// <summary>ICS: bit 0, a wait descriptor with interrupt has completed.</summary>
    internal uint CompletionStatus { get; private set; }

    /// <summary>IQERCD, bits 3:0: why the queue stopped.</summary>
    internal QueueErrorInformation Error { get; private set; }

    internal long Waits { get; private set; }

    internal long ContextInvalidations { get; private set; }

    internal long IotlbInvalidations { get; private set; }

    internal void WriteAddress(ulong value) => Address = value & AddressMask;

    internal void WriteTail(ulong value)
    {
        Tail = value & OffsetMask;
        Run();
    }

    internal void WriteCompletionStatus(uint value)
    {
        CompletionStatus &= ~(value & 1);
        if (CompletionStatus == 0) { Event.Withdraw(); }
    }

    internal void Enable(bool on)
    {
        if (on == IsEnabled) { return; }
        IsEnabled = on;
        Head = 0;
        _base = new(Address & ~0xFFFUL);
        _bytes = 0x1000u << (int)(Address & 7);
        Run();
    }

    /// <summary>Executes descriptors until the queue is empty or stops on an error.</summary>
    internal void Run()
    {
        if (!IsEnabled || Head == Tail || faults.QueueStopped) { return; }
        var error = Tail < _bytes ? QueueErrorInformation.None : QueueErrorInformation.TailBeyondQueue;
        while (error == QueueErrorInformation.None && Head != Tail)
        {
            PhysicalAddress at = _base + Head;
            error = memory.TryRead64(at, out ulong low) && memory.TryRead64(at + sizeof(ulong), out ulong high)
                ? Execute(new(low, high))
                : QueueErrorInformation.Unreachable;
            if (error == QueueErrorInformation.None) { Head = (Head + InvalidationDescriptor.Size) & (_bytes - 1); }
        }
        if (_drainDue) { Drain(); }
        if (error == QueueErrorInformation.None) { return; }
        Error = error;
        faults.StopQueue();
    }

    internal void ClearError() => Error = QueueErrorInformation.None;

    /// <summary>Drops context entries, from the queue or by register.</summary>
    internal InvalidationGranularity InvalidateContexts(
        InvalidationGranularity granularity, ushort domainId, RequesterId source, int functionMask)
    {
        if (granularity == InvalidationGranularity.Reserved) { return granularity; }
        ContextInvalidations++;
        _drainDue = true;
        caches.InvalidateContexts(granularity, domainId, source, functionMask);
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
        caches.InvalidatePages(granularity, domainId, address, addressMask);
        return granularity;
    }

    /// <summary>Waits for every DMA that may have used what was dropped.</summary>
    internal void Drain()
    {
        drain.Wait();
        _drainDue = false;
    }

    internal void Reset()
    {
        Event.Reset();
        (IsEnabled, Address, Head, Tail, CompletionStatus, Error) = (false, 0, 0, 0, 0, QueueErrorInformation.None);
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
        if (wait.WritesStatus && !memory.TryWrite32(wait.StatusAddress, wait.StatusData))
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
