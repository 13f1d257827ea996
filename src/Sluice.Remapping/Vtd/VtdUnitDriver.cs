using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// One VT-d unit in legacy mode with queued invalidation: its registers, root table, queue and fault log.
/// </summary>
/// <remarks>
/// Scalable mode and interrupt remapping would be further drivers beside this one. Tables are written with ordinary
/// stores: a unit whose walks bypass the processor's caches (ECAP.C = 0 on real silicon) would need cache line flushes,
/// which belong into the memory below. Units without queued invalidation (ECAP.QI = 0, before 2010) are refused with a
/// clear line.
/// </remarks>
internal sealed class VtdUnitDriver : IUnitDriver
{
    private readonly Lock _tablesLock = new();
    private readonly IPlatform _platform;
    private readonly RegisterWindow _registers;
    private readonly GlobalCommands _commands;
    private readonly ContextTables _contexts;
    private readonly HashSet<RequesterId> _silenced = [];
    private readonly HashSet<RequesterId> _quarantined = [];
    private readonly Dictionary<RequesterId, ushort> _attached = [];
    private readonly int _hostAddressBits;
    private readonly Action<IUnitDriver> _onDeath;
    private readonly Action _readFaults;
    private readonly Action _attendFaults;
    private readonly List<(PhysicalAddress First, int SizeLog2)> _tables = [];
    private readonly PhysicalAddress _root;
    private readonly PhysicalAddress _ring;
    private readonly int _ringPagesLog2;
    private IInterruptLine? _faultLine;
    private bool _begun;
    private int _dying;

    /// <summary>Reads the unit's capabilities and prepares tables and queue; nothing about DMA changes yet.</summary>
    /// <exception cref="RemappingException">
    /// Nothing is where its registers should be, the unit does not answer or lacks what this driver needs, or memory
    /// ran out.
    /// </exception>
    public VtdUnitDriver(UnitHost host, VtdUnitDescription description)
    {
        (IPlatform platform, RemappingOptions options) = (host.Platform, host.Options);
        (_platform, _onDeath, _hostAddressBits) = (platform, host.OnDeath, host.PhysicalAddressBits);
        Description = description;
        _registers = MapRegisters(VtdRegister.LeastLength);
        try
        {
            Capability = new(_registers.Read64(VtdRegister.Capability));
            Extended = new(_registers.Read64(VtdRegister.ExtendedCapability));
        }
        catch (Exception e) { throw new RemappingException($"{this} does not answer: {e.Message}", e); }
        Check();
        Traits = DescribeTraits(Capability);
        if (RegisterBytes() is var needed && needed > _registers.Length) { _registers = MapRegisters(needed); }
        _commands = new(_registers, platform.Clock, options.WaitNanoseconds, Extended.InvalidateAddressOffset + 8);
        _ringPagesLog2 = options.QueuePagesLog2;
        _root = AllocateTable(12);
        _ring = AllocateTable(12 + _ringPagesLog2);
        PhysicalAddress status = AllocateTable(12);
        _contexts = new(host.TableMemory, platform.Frames, _root);
        Queue = new(platform, _registers, Capability, options, _ring, _ringPagesLog2, status, OnQueueDeath);
        Faults = new(platform, _registers, Capability, description.Segment, options, host.Faults, TrySilence, TryQuarantine,
            Queue.Recover);
        // Made once: an interrupt allocates nothing.
        (_readFaults, _attendFaults) = (Faults.OnInterrupt, Faults.OnTimer);
    }

    public VtdUnitDescription Description { get; }

    /// <inheritdoc/>
    UnitDescription IUnitDriver.Description => Description;

    /// <inheritdoc/>
    public UnitTraits Traits { get; }

    public VtdCapability Capability { get; }

    public VtdExtendedCapability Extended { get; }

    public InvalidationQueue Queue { get; }

    public FaultLog Faults { get; }

    /// <inheritdoc/>
    public bool IsDead => Queue.IsDead;

    /// <inheritdoc/>
    public UnitStatistics Statistics => new(
        Queue.PageInvalidations, Queue.DomainInvalidations, Queue.GlobalInvalidations, Queue.ContextInvalidations,
        Queue.Waits, Queue.QueueErrors, Faults.Faults, Faults.Lost, Faults.Storms, Faults.SilencedStorms);

    /// <summary>
    /// From whatever firmware left to "nobody may do DMA". A translation that is on stays on: it changes from the
    /// firmware's tables to our empty ones without a moment of no tables.
    /// </summary>
    /// <exception cref="RemappingException">A step was not confirmed in time.</exception>
    public void Start()
    {
        _begun = true;
        try { TakeOver(); }
        catch (Exception e) when (e is not RemappingException)
        {
            throw new RemappingException($"{this} does not answer: {e.Message}", e);
        }
    }

    /// <inheritdoc/>
    public void OnTimer() => Attend(_attendFaults);

    private void TakeOver()
    {
        _registers.Write32(VtdRegister.FaultEventControl, VtdRegister.EventMask);
        FlushWrites("flushing its write buffer");
        if (_commands.Has(VtdGlobal.InterruptRemappingEnable))
        {
            Require(_commands.TryClear(VtdGlobal.InterruptRemappingEnable),
                "leaving the firmware's interrupt remapping");
        }
        if (_commands.Has(VtdGlobal.QueuedInvalidationEnable))
        {
            Require(_commands.TryClear(VtdGlobal.QueuedInvalidationEnable),
                "leaving the firmware's invalidation queue");
        }
        _registers.Write64(VtdRegister.InvalidationQueueTail, 0);
        _registers.Write64(VtdRegister.InvalidationQueueAddress, _ring.Value | (uint)_ringPagesLog2);
        Require(_commands.TrySet(VtdGlobal.QueuedInvalidationEnable), "switching its invalidation queue on");
        _registers.Write64(VtdRegister.RootTableAddress, _root.Value);
        Require(_commands.TrySet(VtdGlobal.SetRootTable), "taking its root table");
        Require(Queue.InvalidateAll(), "invalidating its caches");
        ConnectFaults();
        if (!_commands.Has(VtdGlobal.TranslationEnable))
        {
            Require(_commands.TrySet(VtdGlobal.TranslationEnable), "switching translation on");
        }
        Require(_commands.TryClearProtectedMemory(), "ending the firmware's protected memory");
        Faults.OnTimer();
    }

    /// <inheritdoc/>
    public IDomainTables? TryCreateTables(TableShape shape)
    {
        PageTableRoot root = new(
            default, TopLevelOf(shape.Width), _hostAddressBits,
            LeafLevels: 1u | (uint)((shape.PageSizes >> 20) & 2) | (uint)((shape.PageSizes >> 28) & 4));
        return DomainTables<VtdSecondStage>.TryAllocateTop(_platform.Frames, root, out PhysicalAddress top)
            ? new DomainTables<VtdSecondStage>(_platform.Memory, _platform.Frames, root with { Table = top })
            : null;
    }

    /// <inheritdoc/>
    public void Attach(SourceId source, AddressSpace space) => Attach(source.Requester, EntryOf(space));

    /// <inheritdoc/>
    public bool Switch(SourceId source, AddressSpace space) => Switch(source.Requester, EntryOf(space));

    /// <inheritdoc/>
    public bool Invalidate(ushort domain, LogicalRange range, bool onlyLeaves) =>
        Queue.InvalidatePages(domain, range.First, range.Last, onlyLeaves);

    /// <inheritdoc/>
    public bool InvalidateDomain(ushort domain) => Queue.InvalidateDomain(domain);

    /// <inheritdoc/>
    public bool Announce(ushort domain, LogicalRange range) => Capability.CachingMode
        ? Queue.InvalidatePages(domain, range.First, range.Last, onlyLeaves: false)
        : TryFlushWrites();

    /// <inheritdoc/>
    public bool TryDrainFaults() => Faults.TryDrain();

    private void Attach(RequesterId device, ContextEntry entry)
    {
        lock (_tablesLock)
        {
            if (IsDead) { throw Failed("attaching a device"); }
            ThrowIfQuarantined(device);
            if (!_contexts.TryPrepare(device))
            {
                throw new RemappingException($"{this}: no memory for the context table of bus {device.Bus:x2}");
            }
            Block(device);
            if (IsDead) { throw Failed("blocking a device"); }
            _attached[device] = entry.DomainId;
            bool silenced = _silenced.Contains(device);
            _contexts.Publish(device, silenced ? new(entry.Low | 2, entry.High) : entry);
            if (Capability.CachingMode)
            {
                // Absence may be cached under domain 0; the new root entry is covered by going global.
                Require(Queue.InvalidateAll(), "announcing a device");
            }
            FlushWrites("announcing a device");
            if (!IsDead) { return; }
            // It died meanwhile, perhaps before the entry was there to be taken away.
            _contexts.BlockAll();
            throw Failed("attaching a device");
        }
    }

    // One store takes the entry from what it says to what it shall say.
    private bool Switch(RequesterId device, ContextEntry entry)
    {
        lock (_tablesLock)
        {
            if (IsDead) { throw Failed("switching a device"); }
            ThrowIfQuarantined(device);
            ContextEntry whole = _silenced.Contains(device) ? new(entry.Low | 2, entry.High) : entry;
            if (!_attached.TryGetValue(device, out ushort oldId) || !_contexts.TryReplace(device, whole))
            {
                Attach(device, entry);
                return false;
            }
            _attached[device] = entry.DomainId;
            TryFlushWrites();
            // By the old id: that is what copies of the old entry, and what was reached through it, are filed under.
            Queue.InvalidateDevice(oldId, device);
            if (!IsDead) { return true; }
            _contexts.BlockAll();
            throw Failed("switching a device");
        }
    }

    /// <inheritdoc/>
    public void Detach(SourceId source)
    {
        lock (_tablesLock)
        {
            if (_attached.ContainsKey(source.Requester)) { Block(source.Requester); }
        }
    }

    /// <summary>
    /// Makes table writes visible to a unit that keeps them back. One that does not confirm it in time is given up, as
    /// with any other wait: nobody knows which tables it sees.
    /// </summary>
    private bool TryFlushWrites()
    {
        if (!Capability.NeedsWriteBufferFlush) { return true; }
        if (IsDead) { return false; }
        Exception? cause = null;
        try
        {
            if (_commands.TryFlushWriteBuffer()) { return true; }
        }
        catch (Exception e)
        {
            // As any register access that throws: whoever changed the tables has to undo it, and not to unwind.
            cause = e;
        }
        Queue.Die(cause);
        return false;
    }

    /// <summary>
    /// Masks the fault event and reads what was recorded until then. Translation stays on, over tables in which nobody
    /// is attached. A unit whose registers throw is given up instead. One that was never started is not touched, and
    /// its tables are free again.
    /// </summary>
    /// <exception cref="TimeoutException">
    /// A fault interrupt does not come to an end. Everything else is done all the same.
    /// </exception>
    public void Stop()
    {
        if (!_begun)
        {
            FreeTables();
            return;
        }
        try { _registers.Write32(VtdRegister.FaultEventControl, VtdRegister.EventMask); }
        catch (Exception e) { Queue.Die(e); }
        try { _faultLine?.Dispose(); }
        finally { Faults.End(); }
    }

    /// <summary>The unit in one line.</summary>
    public override string ToString() => $"VT-d unit at {Description.Registers}";

    private void Block(RequesterId device)
    {
        if (!_attached.Remove(device, out ushort domainId)) { return; }
        _contexts.Clear(device, _silenced.Contains(device));
        TryFlushWrites();
        // Not confirmed means dead by now, and the domain keeps a dead unit in its list (Domain.Leave).
        Queue.InvalidateDevice(domainId, device);
    }

    /// <summary>
    /// Switches a device's fault reporting; also for a device that is not attached. False when the tables are being
    /// changed by this thread.
    /// </summary>
    private bool TrySilence(RequesterId device, bool silenced)
    {
        if (_tablesLock.IsHeldByCurrentThread) { return false; }
        lock (_tablesLock)
        {
            if (IsDead) { return true; }
            if (!_contexts.TryPrepare(device)) { return false; }
            if (silenced) { _silenced.Add(device); }
            else { _silenced.Remove(device); }
            _contexts.Silence(device, silenced);
            TryFlushWrites();
            // A device without a domain may be cached as absent, under domain 0.
            Queue.InvalidateDevice(_attached.GetValueOrDefault(device), device);
            return true;
        }
    }

    /// <inheritdoc/>
    public SourceId[] Quarantined
    {
        get
        {
            lock (_tablesLock)
            {
                return [.. _quarantined.OrderBy(static id => id.Value).Select(id =>
                    new SourceId(new PciAddress(Description.Segment, id)))];
            }
        }
    }

    /// <inheritdoc/>
    public bool EndQuarantine(SourceId source)
    {
        lock (_tablesLock) { return _quarantined.Remove(source.Requester); }
    }

    /// <inheritdoc/>
    public void ThrowIfQuarantined(SourceId source) => ThrowIfQuarantined(source.Requester);

    private void ThrowIfQuarantined(RequesterId device)
    {
        lock (_tablesLock)
        {
            if (!_quarantined.Contains(device)) { return; }
        }
        throw new RemappingException($"{device} raised too many faults and is in quarantine: it stays blocked");
    }

    private bool TryQuarantine(RequesterId device)
    {
        if (_tablesLock.IsHeldByCurrentThread) { return false; }
        lock (_tablesLock)
        {
            if (!IsDead && _quarantined.Add(device)) { Block(device); }
            return true;
        }
    }

    private void OnQueueDeath()
    {
        if (Interlocked.Exchange(ref _dying, 1) != 0) { return; }
        _contexts.BlockAll();
        _onDeath(this);
        // The queue may be all that is broken: through registers the caches can still be emptied.
        try
        {
            if (_commands.TryClear(VtdGlobal.QueuedInvalidationEnable)) { _commands.TryInvalidateAll(); }
        }
        catch (Exception)
        {
            // The registers are gone as well. The tables say "blocked", and more cannot be done.
        }
    }

    /// <summary>
    /// Reads faults. What that throws is the platform's to keep, unless the registers threw it: then the unit is given
    /// up, as with any other access, and nothing of it is read again.
    /// </summary>
    private void Attend(Action read)
    {
        if (IsDead && Queue.Cause is not null) { return; }
        try { read(); }
        catch (Exception e) when (!Answers())
        {
            Queue.Die(e);
        }
    }

    private bool Answers()
    {
        try
        {
            _ = _registers.Read32(VtdRegister.FaultStatus);
            return true;
        }
        catch (Exception) { return false; }
    }

    private void ConnectFaults()
    {
        _faultLine = _platform.ConnectInterrupt(
            $"VT-d faults at {Description.Registers}", () => Attend(_readFaults));
        MsiMessage message = _faultLine.Message;
        _registers.Write32(VtdRegister.FaultEventData, message.Data);
        _registers.Write32(VtdRegister.FaultEventAddress, (uint)message.Address.Value);
        _registers.Write32(VtdRegister.FaultEventUpperAddress, (uint)(message.Address.Value >> 32));
        _registers.Write32(VtdRegister.FaultEventControl, 0);
    }

    private static ContextEntry EntryOf(AddressSpace space) => ContextEntry.For(
        TranslationType.Translated, space.Tables.Root.Table, space.Tables.Root.TopLevel, space.Id);

    private static UnitTraits DescribeTraits(VtdCapability capability)
    {
        ulong widths = 0;
        for (int level = 2; level <= VtdSecondStage.MaximumTopLevel; level++)
        {
            if (capability.SupportsTopLevel(level)) { widths |= UnitTraits.Width(WidthOf(level)); }
        }
        return new(
            VtdSecondStage.Name, VtdSecondStage.GranuleLog2,
            1UL << 12 | (capability.Leaves2M ? 1UL << 21 : 0) | (capability.Leaves1G ? 1UL << 30 : 0),
            widths, capability.MaximumAddressBits, capability.Domains)
        {
            NeedsAnnouncement = capability.CachingMode || capability.NeedsWriteBufferFlush,
            Holes = [InterruptAddresses],
        };
    }

    private static int WidthOf(int topLevel) =>
        VtdSecondStage.GranuleLog2 + VtdSecondStage.IndexBits * (topLevel + 1);

    private static int TopLevelOf(int width) =>
        (width - VtdSecondStage.GranuleLog2) / VtdSecondStage.IndexBits - 1;

    private RegisterWindow MapRegisters(uint bytes)
    {
        try { return _platform.MapRegisters(Description.Registers, bytes); }
        catch (ArgumentException e)
        {
            // Where they are is the firmware's word, not the caller's.
            throw new RemappingException($"{this} has no registers there, 0x{bytes:X} bytes", e);
        }
    }

    // Whole pages up to the last register that the unit names. Firmware knows less: older tables have no size, newer
    // ones a wrong one. Bounded by the width of the fields: five pages.
    private uint RegisterBytes()
    {
        uint records = Capability.FaultRecordOffset + (uint)Capability.FaultRecords * FaultRecord.Size;
        uint last = Math.Max(records, Extended.InvalidateAddressOffset + 16u);
        return (last + VtdRegister.LeastLength - 1) & ~(VtdRegister.LeastLength - 1);
    }

    private void Check()
    {
        if (Capability.Word is 0 or ulong.MaxValue) { throw new RemappingException($"{this} does not answer"); }
        if (!Extended.QueuedInvalidation) { throw new RemappingException($"{this} has no queued invalidation"); }
        if ((Capability.AddressWidths & 0b1110) == 0)
        {
            throw new RemappingException($"{this} supports no known table depth");
        }
        if (Math.Min(Capability.FaultRecordOffset, Extended.InvalidateAddressOffset) < VtdRegister.FixedEnd)
        {
            throw new RemappingException($"{this} names fault or invalidation registers among its fixed ones");
        }
    }

    private PhysicalAddress AllocateTable(int sizeLog2)
    {
        if (_platform.Frames.TryAllocate(FrameKind.UnitTable, sizeLog2, out PhysicalAddress first))
        {
            _tables.Add((first, sizeLog2));
            return first;
        }
        FreeTables();
        throw new RemappingException($"{this}: no memory for its tables");
    }

    // While the unit does not know them.
    private void FreeTables()
    {
        foreach ((PhysicalAddress first, int sizeLog2) in _tables) { _platform.Frames.Free(first, sizeLog2); }
        _tables.Clear();
    }

    private void FlushWrites(string what) => Require(TryFlushWrites(), what);

    private void Require(bool confirmed, string what)
    {
        if (!confirmed) { throw Failed(what); }
    }

    private RemappingException Failed(string what) => Queue.Cause is { } cause
        ? new($"{this} did not confirm {what}: {cause.Message}", cause)
        : new($"{this} did not confirm {what} in time");
}
