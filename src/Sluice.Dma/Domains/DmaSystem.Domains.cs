using Sluice.Remapping;

namespace Sluice.Dma;

// Which domain a new adapter begins in: its own, or that of the functions whose requester id its device shares.
public sealed partial class DmaSystem
{
    private readonly HashSet<DmaSession> _sessions = [];
    private DmaDomain? _physical;

    /// <summary>Guards who is in which domain. Taken inside the adapters' lock, never the other way.</summary>
    internal Lock DomainLock { get; } = new();

    /// <summary>The domain of everybody where nothing remaps.</summary>
    internal DmaDomain PhysicalDomain =>
        Volatile.Read(ref _physical) ?? Interlocked.CompareExchange(ref _physical, new(this, "physical memory"), null)
        ?? _physical!;

    /// <summary>Whether a device is trusted with the rest of a page.</summary>
    internal bool Trusts(PciAddress device) => _options.Trusts(device);

    /// <summary>
    /// Finds the adapters of all functions that carry an id: one, unless a bridge makes them alike.
    /// </summary>
    internal void FindAdaptersBehind(PciAddress requester, DmaAdapter[] adapters, List<DmaAdapter> found)
    {
        AliasGroup? group = _remapping?.GroupOf(requester);
        foreach (DmaAdapter adapter in adapters)
        {
            // An id of its own names one function even behind a bridge that lets some of them through.
            if (adapter.Device == requester && (group is null || !group.IsShared(requester)))
            {
                found.Clear();
                found.Add(adapter);
                return;
            }
            if (adapter.Device == requester || (group?.Contains(adapter.Device) ?? false)) { found.Add(adapter); }
        }
    }

    /// <summary>Whether a device is one of those that may have sent what carries an id.</summary>
    internal bool CarriesSharedId(PciAddress requester, PciAddress device) =>
        _remapping?.GroupOf(requester) is { } group && group.IsShared(requester) && group.Contains(device);

    /// <summary>Lends a device to a client that is not trusted: handles, a quota, and a certain end.</summary>
    /// <param name="client">The client's name, for reports.</param>
    /// <param name="device">The function; it may have no adapter.</param>
    /// <param name="description">What the device can do.</param>
    /// <param name="options">What the client may take; null for the defaults.</param>
    /// <exception cref="DmaException">
    /// No remapping unit stands between devices and memory: nothing could take a client's memory back from a device.
    /// </exception>
    /// <exception cref="InvalidOperationException">The device has an adapter already.</exception>
    /// <exception cref="ObjectDisposedException">The system is disposed, which ends all sessions.</exception>
    /// <exception cref="RemappingException">No domain or unit for the device; it stays blocked.</exception>
    public DmaSession OpenSession(
        string client, PciAddress device, DeviceDescription description, DmaSessionOptions? options = null)
    {
        options ??= new();
        options.Validate();
        if (_remapping is null)
        {
            throw new DmaException(
                DmaFailure.Unreachable, $"{device} cannot be lent to {client}: no remapping unit could take it back");
        }
        DmaAdapter adapter = CreateAdapter(device, description, client);
        adapter.IsLent = true;
        DmaSession session = new(this, adapter, options);
        bool late;
        lock (_lock)
        {
            late = _ending;
            if (!late) { _sessions.Add(session); }
        }
        if (late)
        {
            session.Dispose();
            throw new ObjectDisposedException(nameof(DmaSystem));
        }
        return session;
    }

    /// <summary>A session is over.</summary>
    internal void Remove(DmaSession session)
    {
        lock (_lock) { _sessions.Remove(session); }
    }

    private IDmaBackend ConnectRemapped(
        RemappingSystem remapping, PciAddress device, DeviceDescription description, string driver)
    {
        lock (DomainLock)
        {
            bool trusted = _options.Trusts(device);
            DmaDomain? mates = DomainOfMates(remapping, device);
            if (mates?.Refusal(description, trusted) is { } refusal)
            {
                throw new RemappingException(
                    $"{driver} {device} is {remapping.GroupOf(device)} and must share {mates}: {refusal}");
            }
            DmaDomain home = mates ?? CreateDomain(remapping, device, description, driver, trusted);
            home.Hold();
            RemappingBackend remapped = new(remapping, home.Space!, Platform, device, description);
            try
            {
                remapping.Attach(home.Space!, device);
                remapped.Settle(home);
            }
            finally
            {
                home.Release();
            }
            // Under the shadow policy nobody sees the rest of a page, however long the transfer is.
            bool isolates = !trusted || _options.Policy == InvalidationPolicy.Shadow;
            IDmaBackend direct = isolates
                ? new IsolatingBackend(remapped, PoolForAll(trusted), Platform, trusted)
                : remapped;
            return home.Pool is { } pool ? new ShadowBackend(direct, pool, Platform, LongestCopied) : direct;
        }
    }

    private DmaDomain CreateDomain(
        RemappingSystem remapping, PciAddress device, DeviceDescription description, string driver,
        bool trusted)
    {
        Domain space = remapping.CreateDomain(new()
        {
            Name = $"{driver} {device}",
            // Until a deferred flush, a page of the pool could be another device's.
            Policy = trusted || _options.Policy == InvalidationPolicy.Shadow
                ? _options.Policy
                : InvalidationPolicy.Strict,
            AddressBits = Math.Max(description.AddressBits, 20),
            Devices = [device],
        });
        if (LongestCopied == 0) { return new(this, space, trusted, null, default); }
        LogicalAddress limit = description.LastAddress;
        return new(
            this, space, trusted, new ShadowPool(space, Platform, _options.Shadow with { Limit = limit }), limit);
    }

    // Transfers up to this many bytes go through slots that stay mapped.
    private uint LongestCopied =>
        _options.Policy == InvalidationPolicy.Shadow ? uint.MaxValue : _options.CopyThreshold;

    private DmaDomain? DomainOfMates(RemappingSystem remapping, PciAddress device)
    {
        if (remapping.GroupOf(device) is not { } group) { return null; }
        foreach (DmaAdapter adapter in Adapters)
        {
            if (group.Contains(adapter.Device)) { return adapter.Domain; }
        }
        return null;
    }
}
