using Sluice.Remapping;

namespace Sluice.Dma;

// Two adapters, one logical address space: a list or common buffer of either is reachable for both devices.
public sealed partial class DmaAdapter
{
    private bool _joined;

    /// <summary>The logical address space that the device is in now.</summary>
    public DmaDomain Domain => _backend.Place ?? _system.PhysicalDomain;

    /// <summary>
    /// Moves the device into the domain of another adapter: from now on what either maps, both devices reach, and
    /// nothing is mapped for them that one of them cannot drive. The device is blocked while it moves.
    /// </summary>
    /// <remarks>
    /// Requests made meanwhile wait their turn; no common buffer or reservation may be asked for. What the other
    /// adapter mapped before may lie where this device does not reach. Without a unit all devices share physical memory
    /// already, and this changes nothing. The domain outlives either adapter while the other is in it.
    /// </remarks>
    /// <param name="other">An adapter of the same system.</param>
    /// <exception cref="InvalidOperationException">
    /// Lists, common buffers or reservations are outstanding, requests wait, it joined a domain already, or the devices
    /// cannot share one: the line says which and how many. Nothing changed.
    /// </exception>
    /// <exception cref="ArgumentException">The other adapter is this one, or of another system.</exception>
    /// <exception cref="ObjectDisposedException">Either adapter was disposed.</exception>
    /// <exception cref="RemappingException">
    /// The device shares its requester id with one that stays, its unit cannot walk the tables of the other's domain
    /// (units that are unlike), or a unit no longer answers; nothing changed, or the device is blocked.
    /// </exception>
    public void JoinDomain(DmaAdapter other)
    {
        ArgumentNullException.ThrowIfNull(other);
        if (other == this || other._system != _system)
        {
            throw new ArgumentException($"{other} is not another adapter of the same system", nameof(other));
        }
        bool othersWait = false;
        // By the domain that the device was in.
        ReadFaults();
        try
        {
            lock (_system.DomainLock)
            {
                ObjectDisposedException.ThrowIf(other.IsReleased, other);
                if (_joined) { throw CannotMove("it has joined a domain already, and must leave it first"); }
                DmaDomain target = other.Domain;
                if (target != Domain && target.Refusal(Description, _system.Trusts(Device)) is { } refusal)
                {
                    throw CannotMove($"{target} does not take it: {refusal}");
                }
                Move(target, ref othersWait);
                _joined = true;
            }
        }
        finally
        {
            // Outside the lock: callbacks of drivers run here.
            if (othersWait) { Serve(); }
        }
    }

    /// <summary>
    /// Moves the device back to its own domain: it no longer reaches what the others map, nor they what it maps. The
    /// device is blocked while it moves.
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// It joined no domain, or lists, common buffers or reservations are outstanding, or requests wait. Nothing
    /// changed.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The adapter was disposed.</exception>
    /// <exception cref="RemappingException">As for <see cref="JoinDomain"/>.</exception>
    public void LeaveDomain()
    {
        bool othersWait = false;
        ReadFaults();
        try
        {
            lock (_system.DomainLock)
            {
                if (!_joined) { throw CannotMove("it has joined no domain that it could leave"); }
                Move(_backend.Home ?? Domain, ref othersWait);
                _joined = false;
            }
        }
        finally
        {
            if (othersWait) { Serve(); }
        }
    }

    /// <summary>
    /// Blocks the device, for good: when this returns it reaches nothing through its own requester id, and nothing that
    /// was put before.
    /// </summary>
    internal void Revoke()
    {
        lock (_system.DomainLock) { _backend.Revoke(); }
    }

    // The move is a request that holds every map register: others wait behind it, as behind any. The caller serves
    // them when the domain lock is free.
    private void Move(DmaDomain target, ref bool othersWait)
    {
        _gate.Enter();
        bool closed = _end == DmaFailure.Disposed;
        (long lists, int held, bool waits) = (_outstanding + _leaks, MapRegisters - _registersFree, OthersWait);
        bool idle = !closed && lists == 0 && held == 0 && !waits;
        if (idle) { (_registersFree, _outstanding) = (0, 1); }
        _gate.Exit();
        ObjectDisposedException.ThrowIf(closed, this);
        try
        {
            int buffers = CountCommonBuffers();
            int reservations;
            lock (_reservations) { reservations = _reservations.Count; }
            if (!idle || buffers + reservations > 0)
            {
                throw CannotMove(
                    $"{Count(lists, "list")}, {Count(buffers, "common buffer")} and "
                    + $"{Count(reservations, "reservation")} are outstanding"
                    + (waits ? ", and requests wait" : held > 0 ? $", with {Count(held, "map register")}" : ""));
            }
            if (target != Domain)
            {
                // While it is known whose they were.
                Flush();
                _backend.Move(target);
            }
        }
        finally
        {
            LookForEnd();
            if (idle) { othersWait = EndMove(); }
        }
    }

    private bool EndMove()
    {
        _gate.Enter();
        (_registersFree, _outstanding) = (MapRegisters, 0);
        _returned++;
        bool othersWait = OthersWait;
        _gate.Exit();
        return othersWait;
    }

    private int CountCommonBuffers()
    {
        int count = 0;
        foreach (Mapping mapping in _table.All)
        {
            bool live = mapping.TryCapture(out MappingRecord record)
                && record.State is MappingState.Live or MappingState.Closing;
            if (live && record.IsCommonBuffer) { count++; }
        }
        return count;
    }

    private InvalidOperationException CannotMove(string why) =>
        new($"{Driver} {Device} cannot change its domain: {why}");

    private static string Count(long number, string what) => $"{number} {what}{(number == 1 ? "" : "s")}";
}
