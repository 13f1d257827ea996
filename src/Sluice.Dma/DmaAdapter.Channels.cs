using System.Diagnostics.CodeAnalysis;

namespace Sluice.Dma;

// The channel: one at a time, and map registers that are set aside for whoever has it. Requests wait in a queue of
// their own, because lists do not need the channel; but for map registers, lists and channels wait in one order.
public sealed partial class DmaAdapter
{
    // A channel is taken, counted and given its registers in one gate section, and given up in one when that fails; its
    // count goes in one with its registers. Who finds registers gone so always finds a channel that will bring them.
    private bool _channelTaken;

    // Channels whose registers are not back yet.
    private int _channelsHeld;
    private FirstComeQueue<DmaChannelRequest> _channelRequests;

    // The first request lacks memory that nothing of this adapter's own brings back.
    private bool _channelStarves;

    /// <summary>Takes the channel and map registers if both are free and nobody waits for them. Never waits.</summary>
    /// <param name="mapRegisters">Pages that are to be mapped at once, 1 to <see cref="MapRegisters"/>.</param>
    /// <param name="channel">The channel; dispose it exactly once.</param>
    /// <exception cref="DmaException">More registers than the adapter has, or the adapter was disposed.</exception>
    public bool TryAllocateChannel(int mapRegisters, [NotNullWhen(true)] out DmaChannel? channel)
    {
        ThrowIfTooMany(mapRegisters);
        DmaFailure failure = Grant(mapRegisters, inTurn: false, out channel, out _);
        return failure is DmaFailure.None or DmaFailure.OutOfResources ? channel is not null
            : throw Explain(failure, 0, default);
    }

    /// <summary>
    /// Takes the channel and map registers, when it is this request's turn: before this returns, or in the thread that
    /// gave them back, or on the thread pool when that was another adapter's call. Exactly one callback, never under a
    /// lock, unless the request is withdrawn.
    /// </summary>
    /// <remarks>
    /// With everything of this adapter's free and still too little memory, <see cref="DmaFailure.OutOfResources"/>
    /// comes before this returns. A request that waits is answered with a channel, or at the end of the adapter or of
    /// the device's DMA. It gets what the channel before it had where that is enough, so it needs no memory then; else
    /// it is tried again whenever something is given back, and, when only memory of the machine is missing, on the
    /// timer that delivers reports.
    /// </remarks>
    /// <param name="request">The request; free until now.</param>
    /// <param name="mapRegisters">Pages that are to be mapped at once, 1 to <see cref="MapRegisters"/>.</param>
    /// <param name="callback">Takes the channel, or the failure.</param>
    /// <param name="state">Handed to the callback.</param>
    /// <exception cref="DmaException">More registers than the adapter has.</exception>
    /// <exception cref="InvalidOperationException">The request still waits, or is another adapter's.</exception>
    public void AllocateChannel(
        DmaChannelRequest request, int mapRegisters, DmaChannelCallback callback, object? state = null)
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(callback);
        ThrowIfTooMany(mapRegisters);
        bool usable = request.Adapter == this && !request.IsQueued;
        if (usable)
        {
            DmaFailure failure = Grant(mapRegisters, inTurn: false, out DmaChannel? channel, out bool mayWait);
            if (!mayWait)
            {
                callback(channel, failure, state);
                return;
            }
        }
        _gate.Enter();
        DmaFailure end = _end;
        long ticket = 0;
        usable &= !request.IsQueued;
        if (usable && end == DmaFailure.None)
        {
            (request.MapRegisters, request.Callback, request.State) = (mapRegisters, callback, state);
            ticket = request.Ticket = ++_tickets;
            _channelRequests.TryAdd(request);
        }
        _gate.Exit();
        if (!usable)
        {
            throw new InvalidOperationException(
                $"a channel request of {request.Adapter.Driver} {request.Adapter.Device} still waits, "
                + $"or was given to {Driver} {Device}");
        }
        if (end == DmaFailure.None) { Serve(own: ticket); }
        else { callback(null, end, state); }
    }

    /// <summary>As <see cref="AllocateChannel"/>, to be awaited.</summary>
    /// <param name="mapRegisters">Pages that are to be mapped at once, 1 to <see cref="MapRegisters"/>.</param>
    /// <param name="cancellationToken">Leaves the queue; nothing is taken then.</param>
    /// <exception cref="DmaException">More registers than the adapter has, or it was disposed.</exception>
    /// <exception cref="OperationCanceledException">Cancelled before its turn came.</exception>
    public async ValueTask<DmaChannel> AllocateChannelAsync(
        int mapRegisters, CancellationToken cancellationToken = default)
    {
        cancellationToken.ThrowIfCancellationRequested();
        if (TryAllocateChannel(mapRegisters, out DmaChannel? free)) { return free; }
        TaskCompletionSource<DmaChannel> granted = new(TaskCreationOptions.RunContinuationsAsynchronously);
        DmaChannelRequest request = new(this);
        AllocateChannel(request, mapRegisters, (channel, failure, _) =>
        {
            if (channel is not null) { granted.SetResult(channel); }
            else { granted.SetException(Explain(failure, 0, default)); }
        });
        using CancellationTokenRegistration registration = cancellationToken.UnsafeRegister(
            static (state, token) =>
            {
                var (request, granted) = ((DmaChannelRequest, TaskCompletionSource<DmaChannel>))state!;
                if (request.TryCancel()) { granted.SetCanceled(token); }
            },
            (request, granted));
        return await granted.Task.ConfigureAwait(false);
    }

    internal DmaFailure TryMapPiece(
        DmaChannel channel, Mdl mdl, uint offset, uint length, DmaDirection direction, int maximumElements,
        in MappingOrigin origin, out ScatterGatherLease list, out uint mapped)
    {
        Check(mdl, offset, length, direction, origin.Member, origin.File);
        (list, mapped) = (default, 0);
        if (_end is var end and not DmaFailure.None) { return end; }
        int free = Volatile.Read(ref channel.FreeRegisters);
        mapped = Fitting(mdl, offset, length, free);
        if (mapped == 0) { return DmaFailure.OutOfResources; }
        while (true)
        {
            DmaFailure failure = TryMapThrough(channel, new(mdl, offset, mapped, direction), origin, out list);
            if (failure == DmaFailure.TooFragmented && FirstPage(mdl, offset, mapped) is uint page && page < mapped)
            {
                mapped = page;
                continue;
            }
            if (failure == DmaFailure.RuleBroken) { throw DmaVerifier.Broken(); }
            if (failure != DmaFailure.None)
            {
                mapped = 0;
                return failure;
            }
            if (list.Count <= maximumElements) { return DmaFailure.None; }
            // The first elements stay what they are when the tail goes, so this ends.
            uint shorter = 0;
            for (int i = 0; i < maximumElements; i++) { shorter += list[i].Length; }
            PutScatterGatherList(list, origin.Member, origin.File);
            mapped = Math.Min(shorter, mapped - 1);
        }
    }

    internal void Release(DmaChannel channel)
    {
        _gate.Enter();
        bool owned = !channel.Released;
        channel.Released = true;
        _gate.Exit();
        if (owned) { GiveUp(channel); }
        Serve();
    }

    internal void End(DmaChannel channel)
    {
        _gate.Enter();
        int mapped = channel.MapRegisters - channel.FreeRegisters;
        bool over = mapped == 0 && !channel.Ended;
        bool owned = over && !channel.Released;
        if (over) { (channel.Ended, channel.Released) = (true, true); }
        _gate.Exit();
        if (mapped != 0)
        {
            _verifier?.OnFreedWhileMapped(mapped);
            throw new InvalidOperationException(
                $"{mapped} map registers of a channel of {Driver} {Device} are still mapped: "
                + "flush before giving them back");
        }
        if (owned) { GiveUp(channel); }
        if (over) { channel.Reservation.Dispose(); }
        Serve();
    }

    internal bool Withdraw(DmaChannelRequest request)
    {
        _gate.Enter();
        bool ours = Remove(request);
        _gate.Exit();
        if (ours) { Serve(); }
        return ours;
    }

    /// <summary>
    /// Tries again what lacked memory of the machine, which comes back without this adapter's knowledge. By the
    /// platform's timer, which no callback holds up.
    /// </summary>
    internal void ServeStarving()
    {
        if (Volatile.Read(ref _channelStarves)) { Serve(ofAnother: true); }
    }

    // The first request, if its turn has come; at the end of the adapter or of the device's DMA, whatever its turn.
    private bool ServeChannel(in Service service)
    {
        _gate.Enter();
        _channelStarves = false;
        DmaChannelRequest? request = _channelRequests.First;
        (HandedOn? handed, _handedOn) = (_handedOn, null);
        bool idle = request is null && _waiters.First is null;
        DmaFailure end = _end;
        bool closed = end != DmaFailure.None;
        bool turn = request is not null && (handed is not null || !_channelTaken) && !IsListBefore(request);
        if (handed is { } back && (closed || !turn || request!.MapRegisters > back.Registers))
        {
            _gate.Exit();
            GiveBack(back);
            return true;
        }
        if (request is null || (!closed && !turn))
        {
            _gate.Exit();
            if (idle) { _ticket?.Leave(); }
            return false;
        }
        (long ticket, long returned, int registers) = (request.Ticket, _returned, request.MapRegisters);
        if (handed is { } more) { _registersFree += more.Registers - registers; }
        _gate.Exit();

        DmaChannel? channel = null;
        DmaFailure failure = end;
        if (handed is { } had) { channel = TakeOver(had, registers); }
        else if (!closed) { failure = Grant(registers, inTurn: true, out channel, out _); }
        bool possible = failure != DmaFailure.OutOfResources || CouldGrant(registers);
        _gate.Enter();
        bool retry = _returned != returned;
        // Who once waited is answered with a channel, however long that takes, or with the adapter's end; or when
        // what was set aside or lost since then leaves too little for good.
        bool waits = failure == DmaFailure.OutOfResources && possible;
        _channelStarves = waits && _outstanding == 0 && _channelsHeld == 0;
        (DmaChannelCallback? callback, object? state) = (request.Callback, request.State);
        bool ours = !waits && request.Ticket == ticket && Remove(request);
        _gate.Exit();
        if (waits) { return retry; }
        if (ours)
        {
            CallBack(new(null, callback, default, channel, failure, state), service, service.Own != 0 && service.Own == ticket);
        }
        else { channel?.Dispose(); }
        return true;
    }

    // Inside the gate: a channel request came before this ticket and waits for map registers only.
    private bool ChannelIsBefore(long ticket) =>
        _channelRequests.First is { } request && !_channelTaken && request.Ticket < ticket;

    // The channel, with everything that one piece of so many pages needs, or nothing.
    private DmaFailure Grant(int registers, bool inTurn, out DmaChannel? channel, out bool mayWait)
    {
        DmaFailure failure = TryReserve(
            LengthOf(registers), registers, 0, out DmaReservation? reservation, out mayWait, inTurn, forChannel: true);
        channel = reservation?.Channel;
        if (channel is not null) { _verifier?.OnTook(DmaResource.Channel, channel, 1, default); }
        return failure;
    }

    // The longest piece.
    private uint LengthOf(int registers) => (uint)Math.Min((ulong)registers << PageLog2, Description.MaximumLength);

    // By whom its release is. The verifier hears of it before the next can have the channel, or it would see two.
    private void GiveUp(DmaChannel channel)
    {
        _verifier?.OnGaveBack(DmaResource.Channel, channel, default);
        _gate.Enter();
        _channelTaken = false;
        _gate.Exit();
    }

    // With what was set aside; when that is in use, because a second piece is mapped beside the first, with what the
    // adapter has.
    private DmaFailure TryMapThrough(
        DmaChannel channel, in Transfer transfer, in MappingOrigin origin, out ScatterGatherLease list) =>
        channel.Reservation.TryMap(transfer, origin, out list, out DmaFailure failure) ? failure
            : TryMap(transfer, origin, ahead: true, out list, out _, channel);

    // Inside the gate. True for exactly one caller per queued request.
    private bool Remove(DmaChannelRequest request)
    {
        if (!_channelRequests.Remove(request)) { return false; }
        (request.Callback, request.State) = (null, null);
        return true;
    }

    private void ThrowIfTooMany(int mapRegisters)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(mapRegisters, 1);
        if (_end != DmaFailure.None || CouldGrant(mapRegisters)) { return; }
        throw new DmaException(DmaFailure.OutOfResources,
            $"{Driver} {Device} can have {MostMapRegisters} map registers at once, and not {mapRegisters}"
            + WhatIsSetAside);
    }

    /// <summary>Whether so many pages could be set aside at once if everything came back but reservations.</summary>
    internal bool CouldGrant(int mapRegisters) => mapRegisters <= MapRegisters - RegistersSetAside
        && _backend.CouldEverReserve(mapRegisters, Volatile.Read(ref _setAside));

    // How many of the bytes lie in the first page: they always are one element.
    private static uint FirstPage(Mdl mdl, uint offset, uint length) => Fitting(mdl, offset, length, 1);

    // How many of the bytes lie in the first so many pages.
    private static uint Fitting(Mdl mdl, uint offset, uint length, int registers)
    {
        uint fitting = 0;
        MdlCursor cursor = new(mdl, offset, length);
        while (registers > 0 && cursor.NextPiece(out Mdl part, out uint at, out uint here))
        {
            int pages = PagesIn(part, at, here);
            if (pages > registers)
            {
                uint inPage = ((uint)part.ByteOffset + at) & ((1u << PageLog2) - 1);
                return fitting + ((uint)registers << PageLog2) - inPage;
            }
            (fitting, registers) = (fitting + here, registers - pages);
        }
        return fitting;
    }
}
