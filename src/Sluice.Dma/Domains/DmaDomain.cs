using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// One logical address space, as drivers see it: what any adapter in it maps, the devices of all of them reach. Two
/// adapters share a domain when one joined the other (<see cref="DmaAdapter.JoinDomain"/>), or when their devices put
/// the same requester id on the bus. Compare by reference.
/// </summary>
/// <remarks>
/// It lives as long as an adapter is in it, calls it home, or leaked something in it. Without a remapping unit there
/// is one domain: physical memory, shared by all. Safe from any thread.
/// </remarks>
public sealed class DmaDomain
{
    private static long s_serial;
    private readonly DmaSystem _system;
    private readonly List<RemappingBackend> _members = [];
    private int _holds;

    // Devices that left, and that no unit confirmed to be out.
    private int _strays;

    internal DmaDomain(DmaSystem system, string name) => (_system, Name) = (system, name);

    internal DmaDomain(DmaSystem system, Domain space, bool trusted, ShadowPool? pool, LogicalAddress poolLimit)
        : this(system, space.Name)
    {
        (Space, IsTrusted, Pool, PoolLimit) = (space, trusted, pool, poolLimit);
    }

    /// <summary>As reports name it: the driver and device it was made for, or <c>physical memory</c>.</summary>
    public string Name { get; }

    /// <summary>Whether a remapping unit stands between it and memory.</summary>
    public bool IsRemapped => Space is not null;

    /// <summary>The devices that reach it now and have an adapter.</summary>
    public IReadOnlyList<PciAddress> Devices
    {
        get
        {
            List<PciAddress> devices = [];
            foreach (DmaAdapter adapter in _system.Adapters)
            {
                if (adapter.Domain == this) { devices.Add(adapter.Device); }
            }
            return devices;
        }
    }

    /// <summary>Tells it apart from every other for what must not keep it alive.</summary>
    internal long Serial { get; } = Interlocked.Increment(ref s_serial);

    /// <summary>The address space of the unit; null without one.</summary>
    internal Domain? Space { get; }

    /// <summary>Whether its devices are trusted with the rest of a page: all of them, or none.</summary>
    internal bool IsTrusted { get; }

    /// <summary>Slots that stay mapped in it; null when everything is mapped.</summary>
    internal ShadowPool? Pool { get; }

    /// <summary>The last address its slots may take.</summary>
    internal LogicalAddress PoolLimit { get; }

    /// <summary>
    /// Devices that may reach it: those in it, and those that left and that no unit confirmed to be out. Under the
    /// domain lock.
    /// </summary>
    internal int Reaching => _members.Count + _strays;

    /// <summary>Whether devices other than <paramref name="backend"/>'s reach it. Under the domain lock.</summary>
    internal bool IsSharedWith(RemappingBackend backend) =>
        _strays > 0 || _members.Exists(other => other != backend);

    /// <summary>Why a device cannot be in it, or null.</summary>
    internal string? Refusal(DeviceDescription device, bool trusted)
    {
        if (Space is { IsDead: true }) { return "a remapping unit below it no longer answers"; }
        if (Space is not null && trusted != IsTrusted)
        {
            return IsTrusted
                ? "its devices are trusted with the rest of a page, and this one is not"
                : "its devices are not trusted with the rest of a page, and this one is";
        }
        return Pool is not null && device.LastAddress < PoolLimit
            ? $"its shadow slots reach up to {PoolLimit}, and the device drives {device.AddressBits} address bits"
            : null;
    }

    /// <summary>Keeps it alive. Under the domain lock.</summary>
    internal void Hold() => _holds++;

    /// <summary>The last one out frees its addresses and tables. Under the domain lock.</summary>
    internal void Release()
    {
        if (--_holds != 0) { return; }
        Pool?.Dispose();
        Space?.Dispose();
    }

    /// <summary>
    /// A device enters: from now on nothing is mapped here that it cannot drive. Under the domain lock.
    /// </summary>
    internal void Enter(RemappingBackend member)
    {
        Hold();
        _members.Add(member);
        Narrow();
    }

    /// <summary>A device has left; the hold stays with the caller. Under the domain lock.</summary>
    /// <param name="member">Whose.</param>
    /// <param name="isOut">Whether a unit confirmed that it reaches nothing here any more.</param>
    internal void Leave(RemappingBackend member, bool isOut)
    {
        _members.Remove(member);
        if (!isOut) { _strays++; }
        Narrow();
    }

    /// <summary>The name and the devices.</summary>
    public override string ToString() => $"domain {Name} of {string.Join(", ", Devices)}";

    private void Narrow()
    {
        int bits = 64;
        foreach (RemappingBackend member in _members) { bits = Math.Min(bits, member.AddressBits); }
        foreach (RemappingBackend member in _members) { member.Limit(bits); }
    }
}
