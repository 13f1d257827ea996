namespace Sluice.Dma;

// Transfers with what a reservation set aside. What a reservation holds is never in the adapter's pools, so requests
// through it neither wait for others nor make them wait.
public sealed partial class DmaAdapter
{
    private readonly List<DmaReservation> _reservations = [];

    // What reservations hold that are not a channel's: replaced, never changed, so that it is read without the lock.
    private BackendReservation[] _setAside = [];

    /// <summary>
    /// Sets aside all that one transfer at a time needs, so that it can never fail for want of anything nor allocate.
    /// </summary>
    /// <param name="maximumLength">The longest transfer, 1 to <see cref="DeviceDescription.MaximumLength"/>
    /// bytes.</param>
    /// <param name="mapRegisters">Pages one transfer may touch; 0 for a single MDL of that length, wherever in its
    /// first page it starts.</param>
    /// <param name="waiters">Requests that may wait for it without allocating; more may wait, and allocate
    /// once.</param>
    /// <exception cref="DmaException">There is not that much left, or the device is blocked.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A length the device does not take, or more registers than the
    /// adapter has.</exception>
    public DmaReservation Reserve(uint maximumLength, int mapRegisters = 0, int waiters = 8)
    {
        DmaFailure failure = TryReserve(maximumLength, mapRegisters, waiters, out DmaReservation? reservation, out _);
        if (failure == DmaFailure.None) { return reservation!; }
        throw failure == DmaFailure.OutOfResources
            ? new DmaException(failure, $"not enough map registers, logical space or memory to set a transfer of "
                + $"{maximumLength} bytes aside for {Driver} {Device}")
            : Explain(failure, maximumLength, default);
    }

    /// <summary>As <see cref="Reserve"/>, with the failure as a result.</summary>
    /// <param name="maximumLength">As there.</param>
    /// <param name="mapRegisters">As there.</param>
    /// <param name="waiters">As there.</param>
    /// <param name="reservation">What was set aside.</param>
    /// <param name="mayWait">Whether what is lacking is out and may come back: false when everything was free.</param>
    /// <param name="inTurn">Whether it is the turn of whoever asks, so that nobody is overtaken.</param>
    /// <param name="forChannel">Whether it is for the channel, which is taken with it, and given back with it when its
    /// driver is done.</param>
    internal DmaFailure TryReserve(
        uint maximumLength, int mapRegisters, int waiters, out DmaReservation? reservation, out bool mayWait,
        bool inTurn = false, bool forChannel = false)
    {
        ArgumentOutOfRangeException.ThrowIfZero(maximumLength);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(maximumLength, Description.MaximumLength);
        ArgumentOutOfRangeException.ThrowIfNegative(mapRegisters);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(mapRegisters, MapRegisters);
        ArgumentOutOfRangeException.ThrowIfNegative(waiters);
        reservation = null;
        if (mapRegisters == 0) { mapRegisters = (int)(((maximumLength - 1UL + PageMask) >> PageLog2) + 1); }
        long elements = ElementBuilder.MostElements(Description, mapRegisters, maximumLength);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(elements, Array.MaxLength, nameof(maximumLength));

        _gate.Enter();
        DmaFailure end = _end;
        bool closed = end != DmaFailure.None;
        bool enough = !closed && mapRegisters <= _registersFree && (inTurn || !OthersWait)
            && !(forChannel && _channelTaken);
        if (enough) { _registersFree -= mapRegisters; }
        if (enough && forChannel) { (_channelTaken, _channelsHeld) = (true, _channelsHeld + 1); }
        Mapping? record = enough ? _table.Take() : null;
        long returned = _returned;
        _gate.Exit();
        mayWait = !enough && !closed;
        if (record is null)
        {
            // It lacks what only this adapter's own puts bring back: others need not wait behind it.
            if (inTurn) { _ticket?.Leave(); }
            return closed ? end : DmaFailure.OutOfResources;
        }

        DmaFailure failure = inTurn ? _backend.TryReserveInTurn(mapRegisters, out BackendReservation? backend)
            : _backend.TryReserve(mapRegisters, out backend);
        if (failure != DmaFailure.None)
        {
            mayWait = TakeBack(mapRegisters, record, inTurn, forChannel, returned)
                && failure == DmaFailure.OutOfResources;
            return failure;
        }
        reservation = SetAside(
            maximumLength, mapRegisters, waiters, backend!, record, (int)elements, forChannel);
        return DmaFailure.None;
    }

    private DmaReservation SetAside(
        uint maximumLength, int mapRegisters, int waiters, BackendReservation backend, Mapping record, int elements,
        bool forChannel)
    {
        DmaReservation reservation = new(this, maximumLength, mapRegisters, backend, record, elements, waiters);
        if (forChannel) { reservation.Channel = new(this, reservation); }
        lock (_reservations)
        {
            _reservations.Add(reservation);
            if (!forChannel) { _setAside = [.. _setAside, backend]; }
        }
        _verifier?.OnTook(DmaResource.MapRegisters, reservation, mapRegisters, default);
        return reservation;
    }

    /// <summary>Nothing of it is in flight, and nobody uses it any more.</summary>
    internal void Unreserve(DmaReservation reservation, Mapping? record)
    {
        lock (_reservations)
        {
            _reservations.Remove(reservation);
            if (reservation.Channel is null) { _setAside = [.. _setAside.Where(r => r != reservation.Backend)]; }
        }
        _verifier?.Drop(DmaResource.MapRegisters, reservation);
        bool ofChannel = reservation.Channel is not null;
        if (ofChannel && record is not null && TryHandOn(reservation, record))
        {
            Serve();
            return;
        }
        // What a leaked transfer goes through stays with it: the device may reach it still.
        if (record is not null) { _backend.Unreserve(reservation.Backend); }
        GiveReserved(reservation.MapRegisters, record, ofChannel);
        _ticket?.Wake();
    }

    // A reservation is kept for as long as its driver likes: a request that only its end could serve does not wait.
    private int RegistersSetAside
    {
        get
        {
            int registers = 0;
            foreach (BackendReservation reservation in Volatile.Read(ref _setAside))
            {
                registers += reservation.Owner!.MapRegisters;
            }
            return registers;
        }
    }

    private string WhatIsSetAside =>
        RegistersSetAside is int held and not 0
            ? $"; its own reservations hold {held} of {MostMapRegisters} pages" : "";

    internal void CheckReserved(DmaReservation reservation, Mdl mdl, uint offset, uint length, DmaDirection direction)
    {
        Check(mdl, offset, length, direction);
        if (length > reservation.MaximumLength)
        {
            throw new ArgumentOutOfRangeException(nameof(length),
                $"{length} bytes through a reservation of {Driver} {Device} for {reservation.MaximumLength}");
        }
        if (RegistersOf(mdl, offset, length) is int registers && registers > reservation.MapRegisters)
        {
            throw new ArgumentOutOfRangeException(nameof(mdl),
                $"these {length} bytes touch {registers} pages, and {reservation.MapRegisters} were reserved by "
                + $"{Driver} {Device}: reserve more map registers for chains");
        }
    }

    /// <summary>As <see cref="TryMap"/>, for whoever has the reservation.</summary>
    internal DmaFailure TryMapReserved(DmaReservation reservation, in Transfer transfer, in MappingOrigin origin,
        out ScatterGatherLease list, out PhysicalAddress culprit)
    {
        (list, culprit) = (default, default);
        // Before anything is taken: a chain that became shorter while it waited throws here.
        int registers = RegistersOf(transfer.Mdl!, transfer.Offset, transfer.Length);
        transfer.Mdl!.PinChain();
        _gate.Enter();
        DmaFailure end = _end;
        DmaChannel? channel = reservation.Channel;
        if (end == DmaFailure.None && channel is not null && registers > channel.FreeRegisters)
        {
            _gate.Exit();
            transfer.Mdl.UnpinChain();
            return DmaFailure.OutOfResources;
        }
        Mapping? mapping = end != DmaFailure.None ? null : reservation.TakeRecord();
        if (mapping is not null)
        {
            if (channel is not null) { channel.FreeRegisters -= registers; }
            _outstanding++;
            _requests++;
            _bytes += transfer.Length;
        }
        long number = ++_number;
        _gate.Exit();
        if (mapping is null)
        {
            transfer.Mdl.UnpinChain();
            DmaFailure refusal = end != DmaFailure.None ? end : DmaFailure.Dead;
            return _verifier?.OnRefused(refusal, transfer, 0, default, origin) ?? refusal;
        }

        mapping.Transfer = transfer with { Elements = reservation.Elements };
        (mapping.Backend.MapRegisters, mapping.Backend.Channel) = (registers, channel);
        mapping.Backend.Reservation = reservation.Backend;
        DmaFailure failure = Fill(mapping, number, transfer, origin, out list, out culprit);
        if (failure == DmaFailure.None) { return failure; }
        reservation.GiveRecord(mapping);
        transfer.Mdl.UnpinChain();
        _gate.Enter();
        if (channel is not null) { channel.FreeRegisters += registers; }
        _outstanding--;
        _requests--;
        _bytes -= transfer.Length;
        _gate.Exit();
        return failure;
    }

    // The adapter is closed: idle reservations go back, one whose transfer leaked stays with it.
    private void CloseReservations()
    {
        DmaReservation[] all;
        lock (_reservations) { all = [.. _reservations]; }
        foreach (DmaReservation reservation in all)
        {
            // What is idle goes back by itself; a channel's registers are the driver's to give back.
            if (reservation.Channel is null) { _verifier?.Drop(DmaResource.MapRegisters, reservation); }
            if (reservation.Close() && !reservation.IsLeaked) { _backend.Unreserve(reservation.Backend); }
        }
    }

    // The back-end has its part back.
    private void GiveReserved(int registers, Mapping? record, bool ofChannel)
    {
        _gate.Enter();
        _registersFree += registers;
        if (ofChannel) { _channelsHeld--; }
        if (record is not null) { _table.GiveUnused(record); }
        _returned++;
        bool othersWait = OthersWait;
        _gate.Exit();
        if (othersWait) { Serve(); }
    }

    // The back-end lacked something: as if nothing had been taken. Whether something was out meanwhile that it may have
    // lacked, so that waiting could help.
    private bool TakeBack(int registers, Mapping record, bool inTurn, bool forChannel, long returned)
    {
        _gate.Enter();
        _registersFree += registers;
        _table.GiveUnused(record);
        if (forChannel) { (_channelTaken, _channelsHeld) = (false, _channelsHeld - 1); }
        bool wasOut = _ticket is { MayComeBack: true } || OthersWait || _returned != returned || _outstanding != 0
            || _channelsHeld != 0 || _registersFree != MapRegisters;
        if (!inTurn) { _returned++; }
        bool othersWait = !inTurn && OthersWait;
        _gate.Exit();
        if (othersWait) { Serve(); }
        return wasOut;
    }
}
