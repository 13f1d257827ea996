using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// One VT-d unit in legacy mode with queued invalidation: its registers, root table, queue and fault records.
/// </summary>
/// <remarks>
/// Scalable mode and interrupt remapping would be further drivers beside this one. Tables are written with ordinary
/// stores: a unit whose walks bypass the processor's caches (ECAP.C = 0 on real silicon) would need cache line flushes,
/// which belong into the memory below. Units without queued invalidation (ECAP.QI = 0, before 2010) are refused with a
/// clear line.
/// </remarks>
internal sealed class VtdUnitDriver : IUnitDriver
{
    private readonly IPlatform _platform;
    private readonly Action<IUnitDriver> _onDeath;
    private readonly VtdUnitDescription _description;
    private readonly VtdCapability _capability;
    private readonly int _hostAddressBits;
    private readonly RegisterWindow _registers;
    private readonly GlobalCommands _commands;
    private readonly UnitTables _tables;
    private readonly ContextTables _contexts;
    private readonly SourceGate _gate;
    private readonly InvalidationSubmitter _invalidations;
    private readonly WriteBuffer _writes;
    private readonly FaultReader _faults;
    private IInterruptLine? _faultLine;
    private bool _begun;

    /// <summary>Reads the unit's capabilities and prepares tables and queue; nothing about DMA changes yet.</summary>
    /// <param name="host">What it needs of the system.</param>
    /// <param name="description">The unit.</param>
    /// <exception cref="RemappingException">
    /// Nothing is where its registers should be, the unit does not answer or lacks what this driver needs, or memory
    /// ran out.
    /// </exception>
    public VtdUnitDriver(UnitHost host, VtdUnitDescription description)
    {
        (IPlatform platform, RemappingOptions options) = (host.Platform, host.Options);
        (_platform, _onDeath, _hostAddressBits) = (platform, host.OnDeath, host.PhysicalAddressBits);
        _description = description;
        (_registers, _capability, VtdExtendedCapability extended) = VtdProbe.Open(platform, description);
        Traits = VtdProbe.TraitsOf(_capability);
        Life = new(this, OnDeath);
        _commands = new(_registers, platform.Clock, options.WaitNanoseconds, extended.InvalidateAddressOffset + 8);
        _tables = new(platform.Frames, options.QueuePagesLog2, description);
        _contexts = new(host.TableMemory, platform.Frames, _tables.Root);
        Queue = new(
            platform, options.WaitNanoseconds, Life, new(_registers), _tables.Ring, _tables.RingLog2, _tables.Status);
        _invalidations = new(Queue, _capability);
        _writes = new(_capability, _commands, Life);
        _gate = new(this, Life, new VtdSourceTable(_contexts, _capability, _writes, _invalidations));
        _faults = new(
            host, Life,
            new VtdFaultRecords(platform.Clock, _registers, _capability, description.Segment, Queue.Recover), _gate);
    }

    /// <inheritdoc/>
    public UnitDescription Description => _description;

    /// <inheritdoc/>
    public UnitTraits Traits { get; }

    /// <summary>Whether it still answers, and if not, why.</summary>
    public UnitLife Life { get; }

    /// <summary>Its invalidation queue.</summary>
    public ConfirmedQueue<QueueRegisters> Queue { get; }

    /// <inheritdoc/>
    public bool IsDead => Life.IsDead;

    /// <inheritdoc/>
    public UnitStatistics Statistics => new(
        Queue.Count(CommandKind.Pages), Queue.Count(CommandKind.Domain), Queue.Count(CommandKind.All),
        Queue.Count(CommandKind.Device), Queue.Waits, Queue.Errors, _faults.Faults, _faults.Lost, _faults.Storms,
        _faults.SilencedStorms);

    /// <inheritdoc/>
    public SourceId[] Quarantined => _gate.Quarantined;

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
    public void Stop()
    {
        if (!_begun)
        {
            _tables.Free();
            return;
        }
        try { _registers.Write32(VtdRegister.FaultEventControl, VtdRegister.EventMask); }
        catch (Exception e) { Life.Die(e); }
        try { _faultLine?.Dispose(); }
        finally { _faults.End(); }
    }

    /// <inheritdoc/>
    public void OnTimer() => _faults.OnTimer();

    /// <inheritdoc/>
    public IDomainTables? TryCreateTables(TableShape shape)
    {
        PageTableRoot root = new(
            default, VtdProbe.TopLevelOf(shape.Width), _hostAddressBits, VtdProbe.LeafLevelsOf(shape.PageSizes));
        return DomainTables<VtdSecondStage>.TryAllocateTop(_platform.Frames, root, out PhysicalAddress top)
            ? new DomainTables<VtdSecondStage>(_platform.Memory, _platform.Frames, root with { Table = top })
            : null;
    }

    /// <inheritdoc/>
    public void Attach(SourceId source, AddressSpace space) => _gate.Attach(source, space);

    /// <inheritdoc/>
    public bool Switch(SourceId source, AddressSpace space) => _gate.Switch(source, space);

    /// <inheritdoc/>
    public void Detach(SourceId source) => _gate.Detach(source);

    /// <inheritdoc/>
    public bool Invalidate(ushort domain, LogicalRange range, bool onlyLeaves) =>
        _invalidations.InvalidatePages(domain, range, onlyLeaves);

    /// <inheritdoc/>
    public bool InvalidateDomain(ushort domain) => _invalidations.InvalidateDomain(domain);

    /// <inheritdoc/>
    public bool Announce(ushort domain, LogicalRange range) => _capability.CachingMode
        ? _invalidations.InvalidatePages(domain, range, onlyLeaves: false)
        : _writes.TryFlush();

    /// <inheritdoc/>
    public bool TryDrainFaults() => _faults.TryDrain();

    /// <inheritdoc/>
    public bool EndQuarantine(SourceId source) => _gate.EndQuarantine(source);

    /// <inheritdoc/>
    public void ThrowIfQuarantined(SourceId source) => _gate.ThrowIfQuarantined(source);

    /// <summary>The unit in one line.</summary>
    public override string ToString() => _description.ToString();

    private void TakeOver()
    {
        _registers.Write32(VtdRegister.FaultEventControl, VtdRegister.EventMask);
        Require(_writes.TryFlush(), "flushing its write buffer");
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
        _registers.Write64(VtdRegister.InvalidationQueueAddress, _tables.Ring.Value | (uint)(_tables.RingLog2 - 12));
        Require(_commands.TrySet(VtdGlobal.QueuedInvalidationEnable), "switching its invalidation queue on");
        _registers.Write64(VtdRegister.RootTableAddress, _tables.Root.Value);
        Require(_commands.TrySet(VtdGlobal.SetRootTable), "taking its root table");
        Require(_invalidations.InvalidateAll(), "invalidating its caches");
        ConnectFaults();
        if (!_commands.Has(VtdGlobal.TranslationEnable))
        {
            Require(_commands.TrySet(VtdGlobal.TranslationEnable), "switching translation on");
        }
        Require(_commands.TryClearProtectedMemory(), "ending the firmware's protected memory");
        _faults.ReadNow();
    }

    private void ConnectFaults()
    {
        _faultLine = _platform.ConnectInterrupt($"VT-d faults at {_description.Registers}", _faults.OnInterrupt);
        MsiMessage message = _faultLine.Message;
        _registers.Write32(VtdRegister.FaultEventData, message.Data);
        _registers.Write32(VtdRegister.FaultEventAddress, (uint)message.Address.Value);
        _registers.Write32(VtdRegister.FaultEventUpperAddress, (uint)(message.Address.Value >> 32));
        _registers.Write32(VtdRegister.FaultEventControl, 0);
    }

    private void OnDeath()
    {
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

    private void Require(bool confirmed, string what)
    {
        if (!confirmed) { throw Life.Failed(what); }
    }
}
