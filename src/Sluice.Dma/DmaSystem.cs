using System.Collections.Concurrent;
using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// The DMA of one machine: hands adapters to drivers, keeps their history, and counts and explains what was blocked.
/// </summary>
/// <remarks>Safe from any thread. Dispose it after the adapters, and both before the machine.</remarks>
public sealed partial class DmaSystem : IDisposable
{
    private readonly Lock _lock = new();
    private readonly DmaOptions _options;
    private readonly List<DmaLeak> _leaks = [];
    private readonly ConcurrentDictionary<PciAddress, string> _formerDrivers = new();
    private DmaAdapter[] _adapters = [];
    private readonly RemappingSystem? _remapping;
    private readonly FaultDesk _faults;
    private readonly WaiterDesk? _waiters;
    private DmaStatistics _past;
    private bool _ending;

    // The units are left: their registers may be gone with the machine.
    private bool _disposed;

    private DmaSystem(IPlatform platform, DmaOptions options, Func<IFaultSink, RemappingSystem>? remap)
    {
        (Platform, _options) = (platform, options);
        History = new(this);
        Former = new(options.RecentMappings);
        if (options.Verification != VerificationMode.Off) { Verifier = new(this, options); }
        // First: nothing of a machine that has a system already is touched.
        DmaOwnership.Claim(this);
        FaultDesk? faults = null;
        try
        {
            _faults = faults = new(this, options, remap is not null);
            _remapping = remap?.Invoke(faults);
            if (_remapping is not null) { _waiters = new(this, _remapping, options); }
        }
        catch
        {
            EveryStep.Of(() => _remapping?.Dispose(), () => faults?.Dispose(), () => DmaOwnership.Leave(this));
            throw;
        }
    }

    /// <summary>
    /// A blocked DMA, explained. Raised on a timer of the platform, by <see cref="DrainFaults"/>, by
    /// <see cref="DeliverReports"/> and by <see cref="Dispose"/>, never inside the fault interrupt, inside a lock or
    /// twice at once; what a subscriber throws is kept in <see cref="SubscriberFailures"/>.
    /// </summary>
    public event Action<DmaReport>? Reported
    {
        add => _faults.Reported += value;
        remove => _faults.Reported -= value;
    }

    /// <summary>
    /// A broken rule of the DDI, while <see cref="DmaOptions.Verification"/> is on. Raised in the call that broke it,
    /// before it returns or throws; what a subscriber throws is kept in <see cref="SubscriberFailures"/>.
    /// </summary>
    /// <exception cref="InvalidOperationException">Verification is off: nothing would ever be told. Taking a
    /// subscriber back is harmless.</exception>
    public event Action<DmaViolation>? Violated
    {
        add
        {
            DmaVerifier verifier = Verifier ?? throw new InvalidOperationException(
                "nobody checks the rules of the DDI: set DmaOptions.Verification before the system is started");
            verifier.Violated += value;
        }
        remove
        {
            if (Verifier is { } verifier) { verifier.Violated -= value; }
        }
    }

    /// <summary>Every mapping that is live or was given back lately.</summary>
    public MappingHistory History { get; }

    /// <summary>
    /// What was never given back, and what was given back but could not be flushed before its unit died; oldest first,
    /// released or not.
    /// </summary>
    public IReadOnlyList<DmaLeak> Leaks
    {
        get
        {
            CollectLost();
            lock (_lock) { return [.. _leaks]; }
        }
    }

    /// <summary>What the machine's DMA came to so far.</summary>
    public DmaStatistics Statistics
    {
        get
        {
            CollectLost();
            lock (_lock)
            {
                DmaStatistics sum = _past;
                foreach (DmaAdapter adapter in _adapters) { sum = Add(sum, adapter.Statistics); }
                return sum with
                {
                    Blocked = _faults.Blocked,
                    Lost = _faults.Lost,
                    SilencedStorms = _faults.SilencedStorms,
                    ReportsDropped = _faults.Dropped,
                    Leaks = _leaks.Count,
                    Violations = Verifier?.Violations ?? 0,
                    SubscriberFailures = Failures.Count,
                };
            }
        }
    }

    /// <summary>The remapping side below, for its own counters; null without a unit.</summary>
    public RemappingSystem? Remapping => _remapping;

    internal IPlatform Platform { get; }

    /// <summary>
    /// What subscribers of <see cref="Reported"/> and <see cref="Violated"/>, callbacks that ran on a timer, and
    /// whoever names regions threw; and what the library itself threw where it judges faults or answers requests that
    /// waited, which is a defect of it. The first sixteen, oldest first.
    /// <see cref="DmaStatistics.SubscriberFailures"/> counts all.
    /// </summary>
    public IReadOnlyList<Exception> SubscriberFailures => Failures.First;

    internal FaultDesk Faults => _faults;

    internal SubscriberFailures Failures { get; } = new();

    /// <summary>What adapters that were disposed mapped last.</summary>
    internal FormerMappings Former { get; }

    /// <summary>Watches over the rules; null while verification is off.</summary>
    internal DmaVerifier? Verifier { get; }

    internal ReadOnlySpan<DmaAdapter> Adapters => Volatile.Read(ref _adapters);

    /// <summary>The adapters now, in an array that never changes.</summary>
    internal DmaAdapter[] AdapterArray => Volatile.Read(ref _adapters);

    /// <summary>
    /// Takes over the machine's DMA. With a unit, every device is blocked when this returns, until it has an adapter.
    /// </summary>
    /// <param name="platform">The machine.</param>
    /// <param name="options">What to set up.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range.</exception>
    /// <exception cref="InvalidOperationException">Another system has the machine's DMA and was not
    /// disposed.</exception>
    /// <exception cref="RemappingException">There is no unit and one is asked for, or it does not do as it
    /// should; or, where the firmware decides, its tables are damaged where they may describe one.</exception>
    public static DmaSystem Start(IPlatform platform, DmaOptions options)
    {
        ArgumentNullException.ThrowIfNull(platform);
        ArgumentNullException.ThrowIfNull(options);
        if (options.Iommu == DmaIommu.Firmware)
        {
            return RemappingSystem.IsDescribed(platform)
                ? StartDescribed(platform, options)
                : Start(platform, options, null);
        }
        return options.Iommu switch
        {
            DmaIommu.None => Start(platform, options, null),
            DmaIommu.Vtd => StartRemapped(platform, options),
            _ => throw new ArgumentOutOfRangeException(nameof(options), $"{options.Iommu} is no kind of unit"),
        };
    }

    // A unit that cannot be had is no machine without one: who wants to go on without says so.
    private static DmaSystem StartDescribed(IPlatform platform, DmaOptions options)
    {
        try { return StartRemapped(platform, options); }
        catch (RemappingException e)
        {
            throw new RemappingException(
                $"{e.Message}; DmaOptions.Iommu = DmaIommu.None starts without a unit: every device reaches all memory",
                e);
        }
    }

    private static DmaSystem StartRemapped(IPlatform platform, DmaOptions options) =>
        Start(platform, options, faults => RemappingSystem.Start(platform, options.Remapping, faults));

    internal static DmaSystem Start(IPlatform platform, DmaOptions options, Func<IFaultSink, RemappingSystem>? remap)
    {
        options.Validate();
        return new(platform, options, remap);
    }

    /// <summary>The adapter of a device, which is blocked no longer: one at a time for each.</summary>
    /// <param name="device">The PCI function whose requester id its DMA carries.</param>
    /// <param name="description">What the device can do.</param>
    /// <param name="driver">The driver's name, for reports.</param>
    /// <exception cref="InvalidOperationException">The device has an adapter already.</exception>
    /// <exception cref="RemappingException">No domain or unit for the device; it stays blocked.</exception>
    public DmaAdapter CreateAdapter(PciAddress device, DeviceDescription description, string driver)
    {
        ArgumentNullException.ThrowIfNull(description);
        ArgumentException.ThrowIfNullOrEmpty(driver);
        description.Validate();
        return Add(device, description, driver, Connect(device, description, driver));
    }

    /// <summary>
    /// Hands all reports that wait to the subscribers now, on this thread; what another thread is handing over already
    /// is waited for, a second at most.
    /// </summary>
    /// <returns>How many were handed over on this thread.</returns>
    public int DeliverReports()
    {
        _faults.Tell(out int here);
        return here;
    }

    /// <summary>
    /// Reads what the units recorded and hands over every report: when this returns true, every DMA that was refused
    /// before the call is counted in <see cref="Statistics"/>, by a record as blocked, as lost, or in a storm that is
    /// over, and the subscribers have heard of every record that was kept. From any thread and any callback, except
    /// while the caller holds what a subscriber waits for. Bounded: a subscriber that takes longer than a second on
    /// another thread is not waited for.
    /// </summary>
    /// <remarks>
    /// A unit that compresses faults may have one record for several DMAs of one device; they are then counted by that
    /// record, as one, and this still says true: <see cref="DmaStatistics.Blocked"/> is a lower bound there.
    /// <para>
    /// Disposing an adapter reads the units first, and disposing the system also hands over every report: no call of
    /// this method is needed for that.
    /// </para>
    /// </remarks>
    /// <returns>
    /// False when it is not all done: the caller is a subscriber, and hears of the rest when it returns; a subscriber
    /// on another thread takes too long; a unit does not answer; or a device is silenced as a storm, and what it is
    /// refused is in no count until the silence ends (<see cref="DmaStatistics.SilencedStorms"/>).
    /// </returns>
    public bool DrainFaults()
    {
        bool read = ReadFaults();
        return _faults.Tell(out _) && read;
    }

    /// <summary>
    /// Reads what the units recorded, and tells nobody yet. Not under a lock that an interrupt may wait for.
    /// </summary>
    internal bool ReadFaults() => Volatile.Read(ref _disposed) || (_remapping?.DrainFaults() ?? true);

    /// <summary>
    /// Ends all sessions and adapters, then remapping, and hands over every report that waits: what was refused before
    /// is told or counted. All of it happens whatever a step throws: what the first one threw comes out at the end. A
    /// subscriber that hangs on another thread is waited for while reports are told, a second for each and ten in all;
    /// what could not be told then is counted in <see cref="DmaStatistics.ReportsDropped"/>. Inside a subscriber the
    /// rest is told when it returns.
    /// </summary>
    public void Dispose()
    {
        DmaSession[] sessions;
        lock (_lock)
        {
            if (_ending) { return; }
            _ending = true;
            sessions = [.. _sessions];
        }
        EveryStep.Of(
            () => EveryStep.ForEach<DmaSession>(sessions, static session => session.Dispose()),
            () => EveryStep.ForEach(Adapters, static adapter => adapter.Dispose()),
            () => _waiters?.Dispose(),
            () => Volatile.Write(ref _disposed, true),
            () => _remapping?.Dispose(),
            () => EveryStep.ForEach<BouncePool>(_pools, static pool => pool.Dispose()),
            _faults.Dispose,
            () => DmaOwnership.Leave(this));
    }

    /// <summary>As <see cref="CreateAdapter"/>, over any back-end.</summary>
    internal DmaAdapter Add(PciAddress device, DeviceDescription description, string driver, Func<IDmaBackend> connect)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_ending, this);
            if (Array.Find(_adapters, a => a.Device == device) is { } other)
            {
                throw new InvalidOperationException(
                    $"device {device} already has an adapter, of driver {other.Driver}");
            }
            DmaAdapter adapter = new(this, device, description, driver, connect(), _options);
            Volatile.Write(ref _adapters, [.. _adapters, adapter]);
            // Its unit may have died since it was attached, when nobody knew of it.
            adapter.LookForEnd();
            return adapter;
        }
    }

    internal void Remove(DmaAdapter adapter)
    {
        Former.Keep(adapter);
        lock (_lock)
        {
            _past = Add(_past, adapter.Statistics with { Outstanding = 0 });
            _formerDrivers[adapter.Device] = adapter.Driver;
            Volatile.Write(ref _adapters, [.. _adapters.Where(a => a != adapter)]);
        }
    }

    /// <summary>Whether a device has an adapter now.</summary>
    internal bool HasAdapter(PciAddress device)
    {
        foreach (DmaAdapter adapter in Adapters)
        {
            if (adapter.Device == device) { return true; }
        }
        return false;
    }

    /// <summary>The last driver of a device that has no adapter now, or null.</summary>
    internal string? FormerDriver(PciAddress device) => _formerDrivers.GetValueOrDefault(device);

    private void CollectLost()
    {
        foreach (DmaAdapter adapter in Adapters) { adapter.CollectLost(); }
    }

    internal void Add(DmaLeak leak)
    {
        lock (_lock) { _leaks.Add(leak); }
    }

    private Func<IDmaBackend> Connect(PciAddress device, DeviceDescription description, string driver)
    {
        if (_remapping is not { } remapping) { return () => WithoutUnit(device, description); }
        return () => ConnectRemapped(remapping, device, description, driver);
    }

    private static DmaStatistics Add(DmaStatistics a, DmaStatistics b) => a with
    {
        Requests = a.Requests + b.Requests,
        Bytes = a.Bytes + b.Bytes,
        Outstanding = a.Outstanding + b.Outstanding,
        BouncedBytes = a.BouncedBytes + b.BouncedBytes,
        Waited = a.Waited + b.Waited,
        LongestWaitNanoseconds = Math.Max(a.LongestWaitNanoseconds, b.LongestWaitNanoseconds),
        CallbackFailures = a.CallbackFailures + b.CallbackFailures,
    };
}
