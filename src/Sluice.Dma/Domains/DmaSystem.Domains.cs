using Sluice.Remapping;

namespace Sluice.Dma;

// Which domain a new adapter begins in: its own, or that of the functions whose requester id its device shares.
public sealed partial class DmaSystem
{
    private DmaDomain? _physical;

    /// <summary>Guards who is in which domain. Taken inside the adapters' lock, never the other way.</summary>
    internal Lock DomainLock { get; } = new();

    /// <summary>The domain of everybody where nothing remaps.</summary>
    internal DmaDomain PhysicalDomain =>
        Volatile.Read(ref _physical) ?? Interlocked.CompareExchange(ref _physical, new(this, "physical memory"), null)
        ?? _physical!;

    /// <summary>The adapters of all functions that carry a requester id: one, unless a bridge makes them alike.</summary>
    internal DmaAdapter[] AdaptersBehind(PciAddress requester)
    {
        AliasGroup? group = _remapping?.GroupOf(requester);
        List<DmaAdapter> found = [];
        foreach (DmaAdapter adapter in Adapters)
        {
            // An id of its own names one function even behind a bridge that lets some of them through.
            if (adapter.Device == requester && (group is null || !group.SharedRequesters.Contains(requester)))
            {
                return [adapter];
            }
            if (adapter.Device == requester || (group?.Contains(adapter.Device) ?? false)) { found.Add(adapter); }
        }
        return [.. found];
    }

    private IDmaBackend ConnectRemapped(
        RemappingSystem remapping, PciAddress device, DeviceDescription description, string driver)
    {
        lock (DomainLock)
        {
            DmaDomain? mates = DomainOfMates(remapping, device);
            if (mates?.Refusal(description) is { } refusal)
            {
                throw new RemappingException(
                    $"{driver} {device} is {remapping.GroupOf(device)} and must share {mates}: {refusal}");
            }
            bool isolated = mates?.IsIsolated ?? !_options.Trusts(device);
            if (!isolated && !_options.Trusts(device))
            {
                throw new RemappingException(
                    $"{driver} {device} is {remapping.GroupOf(device)} and must share {mates}, which shows its devices "
                    + "whole pages, and is not trusted with those");
            }
            DmaDomain home = mates ?? CreateDomain(remapping, device, description, driver, isolated);
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
            IDmaBackend direct = isolated ? new IsolatingBackend(remapped, PoolForAll, Platform) : remapped;
            return home.Pool is { } pool ? new ShadowBackend(direct, pool, Platform) : direct;
        }
    }

    private DmaDomain CreateDomain(
        RemappingSystem remapping, PciAddress device, DeviceDescription description, string driver, bool isolated)
    {
        Domain space = remapping.CreateDomain(new()
        {
            Name = $"{driver} {device}",
            // Until a deferred flush, a page that stood in could be another device's.
            Policy = isolated && _options.Policy == InvalidationPolicy.Deferred
                ? InvalidationPolicy.Strict
                : _options.Policy,
            AddressBits = Math.Max(description.AddressBits, 20),
        });
        if (_options.Policy != InvalidationPolicy.Shadow) { return new(this, space, null, default) { IsIsolated = isolated }; }
        LogicalAddress limit = description.LastAddress;
        return new(this, space, new ShadowPool(space, Platform, _options.Shadow with { Limit = limit }), limit)
        {
            IsIsolated = isolated,
        };
    }

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
