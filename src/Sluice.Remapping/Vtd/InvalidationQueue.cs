using Sluice.Formats.Vtd;
using Sluice.Remapping.Allocation;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// The invalidation queue of one unit. Every call appends its descriptors and a wait descriptor, rings the tail
/// register once, and returns when the unit has confirmed. Safe from any thread; several may wait at once.
/// </summary>
/// <remarks>
/// Wait descriptors are fences and store ever-growing numbers into one word, so "my number or a later one" is all a
/// waiter has to see, and nobody holds the gate while polling for it. The tail register is written inside the gate,
/// because tails must not overtake each other. Hardware takes that write at once; a unit that is software may execute
/// the queue inside it, drain included, and then the next submitter yields for as long as that takes.
/// <para>A register access that throws is a unit that no longer answers: it is given up, with the exception as the
/// cause. Whatever was submitted then is not confirmed, so its pages are quarantined.</para>
/// <para>VT-d specification 6.5.2; fault handling 6.5.2.10.</para>
/// </remarks>
internal sealed class InvalidationQueue
{
    private readonly PhysicalMemory _memory;
    private readonly RegisterWindow _registers;
    private readonly IPlatformClock _clock;
    private readonly long _waitNanoseconds;
    private readonly Action _died;
    private readonly PhysicalAddress _ring;
    private readonly PhysicalAddress _status;
    private readonly InvalidationDescriptor[] _written;
    private readonly int _maximumMask;
    private SpinGate _gate;
    private int _tail;
    private int _used;
    private uint _issued;
    private int _replacedSlot = -1;
    private volatile bool _dead;

    /// <summary>
    /// A queue over a zeroed ring of 2^<paramref name="pagesLog2"/> pages and a zeroed status word. The unit does not
    /// know it yet.
    /// </summary>
    public InvalidationQueue(
        IPlatform platform, RegisterWindow registers, VtdCapability capability, RemappingOptions options,
        PhysicalAddress ring, int pagesLog2, PhysicalAddress status, Action died)
    {
        (_memory, _registers, _clock) = (platform.Memory, registers, platform.Clock);
        (_waitNanoseconds, _ring, _status, _died) = (options.WaitNanoseconds, ring, status, died);
        _written = new InvalidationDescriptor[(4096 << pagesLog2) / InvalidationDescriptor.Size];
        _maximumMask = capability.PageSelective ? capability.MaximumAddressMask : -1;
    }

    public long PageInvalidations { get; private set; }

    public long DomainInvalidations { get; private set; }

    public long GlobalInvalidations { get; private set; }

    public long ContextInvalidations { get; private set; }

    public long Waits { get; private set; }

    public long QueueErrors { get; private set; }

    /// <summary>Whether the unit stopped answering; then nothing more is submitted.</summary>
    public bool IsDead => _dead;

    /// <summary>What a register access threw, if that is what ended it.</summary>
    public Exception? Cause { get; private set; }

    /// <summary>Drops a run of pages, or more, from the IOTLB.</summary>
    /// <param name="domainId">The domain.</param>
    /// <param name="first">The first byte of the run.</param>
    /// <param name="last">The last byte of the run.</param>
    /// <param name="onlyLeaves">No table pointer changed.</param>
    /// <returns>False when the unit is dead.</returns>
    public bool InvalidatePages(ushort domainId, LogicalAddress first, LogicalAddress last, bool onlyLeaves)
    {
        // The smallest aligned power of two of pages that holds both ends; a superset is right, less is not.
        int mask = 64 - System.Numerics.BitOperations.LeadingZeroCount((first.Value ^ last.Value) >> 12);
        if (mask > _maximumMask) { return InvalidateDomain(domainId); }
        return Run(InvalidationDescriptor.ForIotlb(
            InvalidationGranularity.Selective, domainId, first.AlignDown(12 + mask), mask, onlyLeaves));
    }

    /// <summary>Drops everything of a domain from the IOTLB.</summary>
    public bool InvalidateDomain(ushort domainId) =>
        Run(InvalidationDescriptor.ForIotlb(InvalidationGranularity.Domain, domainId));

    /// <summary>Drops the context entry of a device, and everything that was cached through it.</summary>
    public bool InvalidateDevice(ushort domainId, RequesterId device) => Run(
        InvalidationDescriptor.ForContextCache(InvalidationGranularity.Selective, domainId, device),
        InvalidationDescriptor.ForIotlb(InvalidationGranularity.Domain, domainId));

    /// <summary>Drops everything.</summary>
    public bool InvalidateAll() => Run(
        InvalidationDescriptor.ForContextCache(InvalidationGranularity.Global),
        InvalidationDescriptor.ForIotlb(InvalidationGranularity.Global));

    /// <summary>
    /// Looks for a descriptor that the unit refused, and replaces it. Called by waiters and the fault interrupt.
    /// </summary>
    public void Recover()
    {
        bool hopeless = false;
        Exception? cause = null;
        try
        {
            if ((_registers.Read32(VtdRegister.FaultStatus) & VtdFaultStatus.QueueError) == 0) { return; }
            _gate.Enter();
            try { hopeless = !TryReplace(); }
            finally { _gate.Exit(); }
        }
        catch (Exception e) { (hopeless, cause) = (true, e); }
        if (hopeless) { Die(cause); }
    }

    /// <summary>Gives the unit up: every wait ends, nothing more is submitted. Never inside the gate.</summary>
    public void Die(Exception? cause = null)
    {
        Cause ??= cause;
        _dead = true;
        _died();
    }

    private bool Run(params ReadOnlySpan<InvalidationDescriptor> descriptors)
    {
        uint number;
        while (!TryAppend(descriptors, out number))
        {
            if (_dead || !Wait(Volatile.Read(ref _issued))) { return false; }
        }
        return HasReached(number) || Wait(number);
    }

    private bool TryAppend(ReadOnlySpan<InvalidationDescriptor> descriptors, out uint number)
    {
        number = 0;
        try
        {
            _gate.Enter();
            try { return TryAppendInGate(descriptors, out number); }
            finally { _gate.Exit(); }
        }
        catch (Exception e)
        {
            // The gate is free by now.
            Die(e);
            return false;
        }
    }

    private bool TryAppendInGate(ReadOnlySpan<InvalidationDescriptor> descriptors, out uint number)
    {
        number = _issued;
        if (_used + descriptors.Length + 1 >= _written.Length)
        {
            // Everything up to the last wait descriptor has been consumed once its number is there.
            if (!HasReached(_issued)) { return false; }
            _used = 0;
            // A replacement was consumed too: only here do slots come into use again, for something else.
            _replacedSlot = -1;
        }
        if (_dead) { return false; }
        foreach (InvalidationDescriptor descriptor in descriptors)
        {
            Count(descriptor);
            Append(descriptor);
        }
        number = ++_issued;
        Waits++;
        Append(InvalidationDescriptor.ForWait(_status, number));
        _registers.Write64(VtdRegister.InvalidationQueueTail, (ulong)_tail * InvalidationDescriptor.Size);
        return true;
    }

    private void Append(InvalidationDescriptor descriptor)
    {
        Store(_tail, descriptor);
        _tail = (_tail + 1) & (_written.Length - 1);
        _used++;
    }

    private void Store(int slot, InvalidationDescriptor descriptor)
    {
        PhysicalAddress address = _ring + (ulong)slot * InvalidationDescriptor.Size;
        _written[slot] = descriptor;
        if (_memory.TryWrite128(address, descriptor.Low, descriptor.High)) { return; }
        _memory.TryWrite64(address, descriptor.Low);
        _memory.TryWrite64(address + 8, descriptor.High);
    }

    /// <summary>
    /// Where the unit stopped, if it still is. Skipping the slot would leave something cached, so the widest form of
    /// what was written there takes its place. False when the unit refused that too.
    /// </summary>
    private bool TryReplace()
    {
        if ((_registers.Read32(VtdRegister.FaultStatus) & VtdFaultStatus.QueueError) == 0) { return true; }
        int slot = (int)(_registers.Read64(VtdRegister.InvalidationQueueHead) >> 4) & (_written.Length - 1);
        QueueErrors++;
        if (slot == _replacedSlot) { return false; }
        InvalidationDescriptor meant = _written[slot];
        _replacedSlot = slot;
        Store(slot, meant.Type switch
        {
            InvalidationType.ContextCache => InvalidationDescriptor.ForContextCache(InvalidationGranularity.Global),
            InvalidationType.Wait => meant,
            _ => InvalidationDescriptor.ForIotlb(InvalidationGranularity.Global),
        });
        _registers.Write32(VtdRegister.FaultStatus, VtdFaultStatus.QueueError);
        _registers.Write64(VtdRegister.InvalidationQueueTail, (ulong)_tail * InvalidationDescriptor.Size);
        return true;
    }

    private bool HasReached(uint number)
    {
        _memory.TryRead32(_status, out uint reached);
        return (int)(reached - number) >= 0;
    }

    private bool Wait(uint number)
    {
        for (Deadline limit = Deadline.In(_clock, _waitNanoseconds); !HasReached(number); limit.Relax())
        {
            if (_dead) { return false; }
            Recover();
            if (limit.HasPassed && !HasReached(number))
            {
                Die();
                return false;
            }
        }
        return true;
    }

    private void Count(InvalidationDescriptor descriptor)
    {
        switch (descriptor.Type, descriptor.Granularity)
        {
            case (InvalidationType.Iotlb, InvalidationGranularity.Selective): PageInvalidations++; break;
            case (InvalidationType.Iotlb, InvalidationGranularity.Domain): DomainInvalidations++; break;
            case (InvalidationType.ContextCache, InvalidationGranularity.Selective): ContextInvalidations++; break;
            default: GlobalInvalidations++; break;
        }
    }
}
