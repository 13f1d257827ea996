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
    private DmaAdapter[] _adapters = [];
    private DmaStatistics _past;
    private bool _disposed;

    private DmaSystem(IPlatform platform, DmaOptions options)
    {
        (Platform, _options) = (platform, options);
        History = new(this);
    }

    /// <summary>Every mapping that is live or was given back lately.</summary>
    public MappingHistory History { get; }

    /// <summary>What was never given back, oldest first, released or not.</summary>
    public IReadOnlyList<DmaLeak> Leaks
    {
        get
        {
            lock (_lock) { return [.. _leaks]; }
        }
    }

    /// <summary>What the machine's DMA came to so far.</summary>
    public DmaStatistics Statistics
    {
        get
        {
            lock (_lock)
            {
                DmaStatistics sum = _past;
                foreach (DmaAdapter adapter in _adapters) { sum = Add(sum, adapter.Statistics); }
                return sum with { Leaks = _leaks.Count };
            }
        }
    }

    internal IPlatform Platform { get; }

    internal ReadOnlySpan<DmaAdapter> Adapters => Volatile.Read(ref _adapters);

    /// <summary>Takes over the machine's DMA.</summary>
    /// <param name="platform">The machine.</param>
    /// <param name="options">What to set up.</param>
    /// <exception cref="ArgumentOutOfRangeException">An option is out of its range.</exception>
    public static DmaSystem Start(IPlatform platform, DmaOptions options)
    {
        ArgumentNullException.ThrowIfNull(platform);
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        return new(platform, options);
    }

    /// <summary>The adapter of a device: one at a time for each.</summary>
    /// <param name="device">The PCI function whose requester id its DMA carries.</param>
    /// <param name="description">What the device can do.</param>
    /// <param name="driver">The driver's name, for reports.</param>
    /// <exception cref="InvalidOperationException">The device has an adapter already.</exception>
    public DmaAdapter CreateAdapter(PciAddress device, DeviceDescription description, string driver)
    {
        ArgumentNullException.ThrowIfNull(description);
        ArgumentException.ThrowIfNullOrEmpty(driver);
        description.Validate();
        return Add(device, description, driver, static (system, _, description, _) => new IdentityBackend(system.Platform, description));
    }

    /// <summary>Ends all adapters, then remapping.</summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_disposed) { return; }
            _disposed = true;
        }
        foreach (DmaAdapter adapter in Adapters) { adapter.Dispose(); }
    }

    internal DmaAdapter Add(
        PciAddress device, DeviceDescription description, string driver,
        Func<DmaSystem, PciAddress, DeviceDescription, string, IDmaBackend> connect)
    {
        lock (_lock)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            if (Array.Find(_adapters, a => a.Device == device) is { } other)
            {
                throw new InvalidOperationException($"device {device} already has an adapter, of driver {other.Driver}");
            }
            DmaAdapter adapter = new(this, device, description, driver, connect(this, device, description, driver), _options);
            Volatile.Write(ref _adapters, [.. _adapters, adapter]);
            return adapter;
        }
    }

    internal void Remove(DmaAdapter adapter, List<DmaLeak> leaks)
    {
        lock (_lock)
        {
            _past = Add(_past, adapter.Statistics with { Outstanding = 0 });
            _leaks.AddRange(leaks);
            Volatile.Write(ref _adapters, [.. _adapters.Where(a => a != adapter)]);
        }
    }

    private static DmaStatistics Add(DmaStatistics a, DmaStatistics b) => a with
    {
        Requests = a.Requests + b.Requests,
        Bytes = a.Bytes + b.Bytes,
        Outstanding = a.Outstanding + b.Outstanding,
        BouncedBytes = a.BouncedBytes + b.BouncedBytes,
    };
}
