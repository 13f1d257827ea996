using System.Runtime.ExceptionServices;
using Sluice.Remapping.Allocation;
using Sluice.Remapping.Units;

namespace Sluice.Remapping;

/// <summary>
/// The operating-system side of every remapping unit of a machine. From <see cref="Start(IPlatform, RemappingOptions,
/// IFaultSink)"/> on no device reaches anything that was not mapped for it. Safe from any thread.
/// </summary>
public sealed class RemappingSystem : IDisposable
{
    private const int PageLog2 = 12;
    private readonly IPlatform _platform;
    private readonly RemappingOptions _options;
    private readonly FirmwareDescription _firmware;
    private readonly IUnitDriver[] _units;
    private readonly Topology _topology;
    private readonly FirmwareRegions _regions;
    private readonly Attachments _attachments;
    private readonly DomainIds _ids;
    private readonly Lock _control = new();
    private readonly FrameRelease _release;
    private Domain[] _domains = [];
    private readonly List<IDisposable> _timers = [];
    private RemappingStatistics _past = new();
    private bool _disposed;

    private RemappingSystem(
        IPlatform platform, IPhysicalMemory tableMemory, RemappingOptions options, IFaultSink faults,
        FirmwareDescription firmware)
    {
        (_platform, _options, _firmware) = (platform, options, firmware);
        UnitHost host = new(platform, tableMemory, options, faults, firmware.HostAddressBits, OnUnitDeath);
        List<IUnitDriver> units = [];
        try
        {
            foreach (UnitDescription unit in firmware.Units) { units.Add(unit.CreateDriver(host)); }
        }
        catch
        {
            foreach (IUnitDriver unit in units) { unit.Stop(); }
            throw;
        }
        _units = [.. units];
        _topology = new(firmware.Groups, _units);
        _regions = new(firmware.Regions, _topology, platform.Frames);
        _attachments = new(_topology, _regions);
        _ids = new(_units.Select(static unit => unit.Traits.Domains));
        _release = new(platform.Frames, () => Volatile.Read(ref _domains));
    }

    /// <summary>
    /// Finds the units in the firmware's tables and takes them over; when this returns every device is blocked.
    /// </summary>
    /// <param name="platform">The machine.</param>
    /// <param name="options">Sizes and patience.</param>
    /// <param name="faults">Takes refused DMAs, on whichever thread reads them (<see cref="IFaultSink"/>).</param>
    /// <exception cref="RemappingException">
    /// No unit, or one that does not do as it should; one clear line says which. It is left where it stopped, those
    /// before it as by <see cref="Dispose"/>, and those behind it as firmware had them.
    /// </exception>
    public static RemappingSystem Start(IPlatform platform, RemappingOptions options, IFaultSink faults)
    {
        ArgumentNullException.ThrowIfNull(platform);
        return Start(platform, platform.Memory, options, faults, UnitCatalogue.Find(platform));
    }

    /// <summary>
    /// As above, for units found elsewhere. The tables of who may do DMA are written through <paramref name="tableMemory"/>,
    /// so that a test can look between two stores.
    /// </summary>
    internal static RemappingSystem Start(
        IPlatform platform, IPhysicalMemory tableMemory, RemappingOptions options, IFaultSink faults,
        FirmwareDescription firmware)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(faults);
        options.Validate();
        RemappingSystem system = new(platform, tableMemory, options, faults, firmware);
        try
        {
            foreach (IUnitDriver unit in system._units) { unit.Start(); }
            // Each unit on a timer of its own, and deferred domains on others: nobody waits for a unit that hangs but
            // who needs it.
            foreach (IUnitDriver unit in system._units)
            {
                system._timers.Add(
                    platform.Clock.StartTimer($"faults of {unit}", options.PeriodNanoseconds, unit.OnTimer));
            }
            return system;
        }
        catch
        {
            // The first failure is the one to tell of.
            system.End();
            throw;
        }
    }

    /// <summary>
    /// A domain ended because a unit below it no longer answers: raised once for each, by the thread that finds out, in
    /// the middle of what it does and perhaps inside its locks. Take note and return: no call into this library, no
    /// wait, no exception.
    /// </summary>
    public event Action<Domain>? DomainDied;

    /// <summary>
    /// Whether the firmware's tables describe remapping units, in order or damaged, or are themselves damaged where
    /// they may have: only then <see cref="Start(IPlatform, RemappingOptions, IFaultSink)"/> may find one, and where
    /// that finds none, devices are not known to be free of one.
    /// </summary>
    /// <param name="platform">The machine. Nothing but its memory is read.</param>
    public static bool IsDescribed(IPlatform platform)
    {
        ArgumentNullException.ThrowIfNull(platform);
        return UnitCatalogue.IsDescribed(platform);
    }

    /// <summary>What happened so far.</summary>
    public RemappingStatistics Statistics => Collect();

    /// <summary>A new, empty logical address space.</summary>
    /// <exception cref="RemappingException">
    /// No domain id or no memory is left; the policy is deferred, and the platform's frames cannot wait for a flush; the
    /// units in front of the devices walk different tables, or map larger pages than the machine has.
    /// </exception>
    public Domain CreateDomain(DomainOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.AddressBits, 20, nameof(options));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.AddressBits, 64, nameof(options));
        lock (_control)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (options.Policy == InvalidationPolicy.Deferred) { _release.Begin(); }
            TableShape shape = ChooseShape(options);
            IUnitDriver[] walkers = [.. _units.Where(unit => shape.IsWalkedBy(unit.Traits))];
            int ids = walkers.Min(static unit => unit.Traits.Domains);
            if (!_ids.TryTake(ids, out ushort id))
            {
                throw new RemappingException($"all {ids - 1} domain ids are taken");
            }
            if (walkers[0].TryCreateTables(shape) is not { } tables)
            {
                _ids.Give(id);
                throw new RemappingException($"no memory for the tables of domain {options.Name}");
            }
            LogicalAddressAllocator addresses = new(
                new(ulong.MaxValue >> (64 - shape.AddressBits)),
                [.. walkers.SelectMany(static unit => unit.Traits.Holes), .. ReservedRanges()],
                _options.MaximumArenas);
            Domain domain = new(
                this, options, new(id, tables), shape, addresses, _platform, _options.DeferredMappings,
                _release.Advance, announces: walkers.Any(static unit => unit.Traits.NeedsAnnouncement));
            foreach (PciAddress device in options.Devices) { _regions.Reserve(domain, device); }
            Volatile.Write(ref _domains, [.. _domains, domain]);
            try { domain.FlushEvery(_platform.Clock, _options.PeriodNanoseconds, _release.Advance); }
            catch
            {
                // Nobody would flush it.
                Remove(domain);
                throw;
            }
            return domain;
        }
    }

    /// <summary>
    /// What was wrong in the firmware's tables and is left out, a line each, up to a thousand: the devices that it
    /// concerns are blocked where they need it. Empty for sound firmware.
    /// </summary>
    public IReadOnlyList<string> FirmwareProblems => _firmware.Problems;

    /// <summary>
    /// Lets a device reach what is mapped in <paramref name="domain"/>. If it was attached elsewhere it is blocked in
    /// between, never in both. Regions that firmware demands for it are mapped first. Functions that share its
    /// requester id (<see cref="GroupOf"/>) reach the domain with it.
    /// </summary>
    /// <exception cref="RemappingException">
    /// No unit serves the device, its unit cannot walk the domain's tables (<see cref="DomainOptions.Devices"/>), a
    /// function that shares its requester id is attached to another domain, a firmware region for it lies where no
    /// device may reach, no memory is left for a table, the device is in quarantine, or a unit is dead. The device is as
    /// it was, or blocked and attached to nothing.
    /// </exception>
    public void Attach(Domain domain, PciAddress device)
    {
        ArgumentNullException.ThrowIfNull(domain);
        lock (_control)
        {
            ThrowIfGone(domain);
            _attachments.Attach(domain, device);
        }
    }

    /// <summary>
    /// Moves an attached device, and every function that shares its requester id, to <paramref name="domain"/> while
    /// it does DMA: each of its requests goes by the old domain as a whole or by the new one, none is refused in
    /// between, and when this returns nothing goes by the old one or is in flight through it.
    /// </summary>
    /// <remarks>
    /// A request is what the bus calls one: it does not cross a page. A longer transfer is several, and goes over at
    /// one of its page boundaries. Of a group with several requester ids, each goes over by itself.
    /// </remarks>
    /// <returns>
    /// False when the device was blocked for a moment in between: the processor cannot store the unit's 16-byte entry
    /// at once. The other promises hold as well then.
    /// </returns>
    /// <exception cref="RemappingException">
    /// The device is attached to nothing, its unit cannot walk the domain's tables, it or another of its group is in
    /// quarantine, or a firmware region for it lies where no device may reach: all are as they were. Or a unit is dead:
    /// all of them are blocked.
    /// </exception>
    public bool Switch(PciAddress device, Domain domain)
    {
        ArgumentNullException.ThrowIfNull(domain);
        lock (_control)
        {
            ThrowIfGone(domain);
            return _attachments.Switch(device, domain);
        }
    }

    /// <summary>
    /// Blocks a device: when this returns true it reaches nothing, and nothing of it is in flight. It need not be
    /// attached. While another function that shares its requester id is attached, what the device sends under that id
    /// is still taken for the other's.
    /// </summary>
    /// <returns>
    /// False when its unit no longer answers. The tables block the device then, but what the unit has cached may still
    /// let it in: the domain that it left is dead, and whatever was mapped there must not be reused.
    /// </returns>
    public bool Detach(PciAddress device)
    {
        lock (_control) { return _attachments.Detach(device); }
    }

    /// <summary>
    /// The domain that a device reaches: the one it is attached to, or that of a function that shares its requester id;
    /// null when it is blocked.
    /// </summary>
    public Domain? DomainOf(PciAddress device)
    {
        lock (_control) { return _attachments.DomainOf(device); }
    }

    /// <summary>
    /// The functions that share requester ids with <paramref name="device"/>; null when it has its id for itself.
    /// </summary>
    public AliasGroup? GroupOf(PciAddress device) => _topology.GroupOf(device);

    /// <summary>
    /// What the unit in front of a device keeps apart; <see cref="Isolation.None"/> where there is no unit.
    /// </summary>
    /// <param name="device">The device; it need not be attached.</param>
    public Isolation IsolationOf(PciAddress device) =>
        _topology.FindUnit(device)?.Traits.Isolation ?? Isolation.None;

    /// <summary>
    /// The requester ids that were blocked because they raised too many faults
    /// (<see cref="RemappingOptions.StormsUntilQuarantine"/>).
    /// </summary>
    public IReadOnlyList<PciAddress> Quarantined =>
        [.. _units.SelectMany(static unit => unit.Quarantined).Select(static source => source.Pci).OfType<PciAddress>()];

    /// <summary>
    /// Lets a device out of quarantine: it reaches the domain that it is still attached to. An attach that the
    /// quarantine refused has detached it: then it stays blocked. Harmless when it is in none.
    /// </summary>
    /// <exception cref="RemappingException">The unit is dead; the device stays blocked.</exception>
    public void EndQuarantine(PciAddress device)
    {
        lock (_control) { _attachments.EndQuarantine(device); }
    }

    /// <summary>
    /// Blocks every device and frees all domains. The units stay on, over tables in which nobody is attached. One whose
    /// registers throw is dead by then, with all that this means (<see cref="Domain.IsDead"/>).
    /// </summary>
    /// <exception cref="TimeoutException">
    /// The platform's timers or interrupts do not come to an end. Everything else is done all the same.
    /// </exception>
    public void Dispose()
    {
        if (End() is { } thrown) { ExceptionDispatchInfo.Throw(thrown); }
    }

    /// <summary>All steps of the end, once. What the first one that failed threw.</summary>
    private Exception? End()
    {
        Exception? thrown = null;
        lock (_control)
        {
            if (_disposed) { return null; }
            // First: a domain or an attach that comes later would stay behind.
            _disposed = true;
        }
        foreach (Domain domain in Volatile.Read(ref _domains)) { Try(domain.Dispose); }
        foreach (IDisposable timer in _timers) { Try(timer.Dispose); }
        Try(_release.End);
        foreach (IUnitDriver unit in _units) { Try(unit.Stop); }
        return thrown;

        void Try(Action step)
        {
            try { step(); }
            catch (Exception e) { thrown ??= e; }
        }
    }

    internal void Remove(Domain domain)
    {
        lock (_control)
        {
            if (!_domains.Contains(domain)) { return; }
            _attachments.Empty(domain);
            domain.FlushNow();
            domain.MarkDisposed();
            _past = _past.With(domain);
            Volatile.Write(ref _domains, [.. _domains.Where(other => other != domain)]);
            // A unit that no longer answers may still walk the tables: they, and the id, are lost with it.
            if (domain.HasFailed) { return; }
            domain.Tables.FreeAll();
            _ids.Give(domain.Id);
        }
    }

    /// <summary>
    /// Reads what every unit has recorded by now, on this thread: when this returns the sink was told of everything
    /// that was refused, and had a record, before the call. Bounded, by ten seconds for each unit that another thread
    /// is reading; a unit whose registers are gone is passed over.
    /// </summary>
    /// <returns>
    /// False when a unit was not read, because it does not answer, is being read by this very thread, or by another one
    /// that does not come to an end; or when a device is silenced as a storm: what it is refused leaves no record, and
    /// is told of when the silence ends.
    /// </returns>
    public bool DrainFaults()
    {
        bool all = true;
        foreach (IUnitDriver unit in _units) { all &= unit.TryDrainFaults(); }
        return all;
    }

    private IReadOnlyList<LogicalRange> ReservedRanges() =>
        _platform.InterruptWindow is { } window ? [window, .. _platform.BusWindows] : _platform.BusWindows;

    private TableShape ChooseShape(DomainOptions options)
    {
        IUnitDriver[] units = _topology.UnitsFor(options.Devices);
        TableShape shape = TableShape.Choose([.. units.Select(static unit => unit.Traits)], options.AddressBits)
            ?? throw new RemappingException(
                $"the devices of domain {options.Name} cannot share one: the units in front of them, "
                + $"{string.Join(" and ", units.AsEnumerable())}, walk different tables");
        return shape.GranuleLog2 == PageLog2 ? shape : throw new RemappingException(
            $"{units[0]} maps pages of 2^{shape.GranuleLog2} bytes: those of this machine have 2^{PageLog2}");
    }

    private void ThrowIfGone(Domain domain)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ObjectDisposedException.ThrowIf(!_domains.Contains(domain), domain);
    }

    internal void OnDomainDeath(Domain domain) => DomainDied?.Invoke(domain);

    private void OnUnitDeath(IUnitDriver unit)
    {
        foreach (Domain domain in Volatile.Read(ref _domains))
        {
            if (domain.Units.Contains(unit)) { domain.MarkDead(); }
        }
    }

    private RemappingStatistics Collect()
    {
        RemappingStatistics all;
        lock (_control)
        {
            all = _past;
            foreach (Domain domain in _domains) { all = all.With(domain); }
        }
        foreach (IUnitDriver unit in _units) { all = all.With(unit); }
        return all;
    }
}
