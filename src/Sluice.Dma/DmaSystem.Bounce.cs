using Sluice.Remapping;

namespace Sluice.Dma;

// Which back-end a device gets where no unit stands between it and memory, and the bounce pools.
public sealed partial class DmaSystem
{
    private BouncePool[] _pools = [];

    /// <summary>The bounce pools made so far, added up; all zero without any.</summary>
    public BounceStatistics BounceStatistics
    {
        get
        {
            BounceStatistics sum = default;
            foreach (BouncePool pool in Volatile.Read(ref _pools))
            {
                sum = BounceStatistics.Add(sum, pool.Statistics);
            }
            return sum;
        }
    }

    /// <summary>Whether transfers of a device without a unit are copied, and why, in one line.</summary>
    internal (bool Bounces, string Reason) ChooseWithoutUnit(DeviceDescription description, bool trusted)
    {
        LogicalAddress top = TopOfMemory;
        string reach = description.LastAddress < top
            ? $"the device drives {description.AddressBits} address bits and memory ends at {top}"
            : "the device reaches all memory";
        string noUnit = RemappingSystem.IsDescribed(Platform)
            ? "the machine's remapping unit is not used, as DmaOptions.Iommu asks"
            : "no unit";
        if (_options.Bounce is not { } bounce) { return (false, $"{noUnit} and no bounce pool; {reach}"); }
        if (bounce.Always) { return (true, $"{noUnit}; every transfer is copied, as BounceOptions.Always asks"); }
        if (description.LastAddress < top) { return (true, $"{noUnit}; {reach}"); }
        if (!description.ScatterGather)
        {
            return (true, $"{noUnit}; the device takes one element and nothing joins pages");
        }
        return trusted
            ? (false, $"{noUnit}; {reach}")
            : (true, $"{noUnit}; the device is not trusted with the rest of a page");
    }

    private LogicalAddress TopOfMemory
    {
        get
        {
            MemoryBank highest = Platform.Memory.Banks[^1];
            return new(highest.First.Value + (highest.Length - 1));
        }
    }

    private IDmaBackend WithoutUnit(PciAddress device, DeviceDescription description)
    {
        bool trusted = _options.Trusts(device);
        (bool bounces, string reason) = ChooseWithoutUnit(description, trusted);
        if (!bounces) { return new IdentityBackend(Platform, description, reason); }
        BounceOptions options = _options.Bounce!;
        return new BounceBackend(
            Platform, description, PoolFor(description.LastAddress, options), options.Always, trusted, reason);
    }

    // Behind a unit every device reaches every page. A device that is trusted needs some for long transfers alone.
    private BouncePool PoolForAll(bool trusted) =>
        PoolFor(new(ulong.MaxValue), _options.Bounce ?? (trusted ? new() { Pages = 0 } : new()));

    // One for all devices that reach equally far, and one for those that reach everything. Under the lock.
    private BouncePool PoolFor(LogicalAddress last, BounceOptions options)
    {
        LogicalAddress limit = last < TopOfMemory ? last : new(ulong.MaxValue);
        if (Array.Find(_pools, pool => pool.Limit == limit) is { } found) { return found; }
        BouncePool made = new(Platform, options, limit);
        Volatile.Write(ref _pools, [.. _pools, made]);
        return made;
    }
}
