using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// A driver's way to its device's DMA: scatter/gather lists for transfers, common buffers for what both sides use for
/// long. The same calls work with a remapping unit, without one, and through a copying pool; the driver never asks
/// which.
/// </summary>
/// <remarks>
/// Safe from any thread. The order for every transfer: get a list, program the device with its elements, wait until
/// the device is done, put the list, and only then look at the data. A list that is put can no longer be reached by
/// the device. Dispose the adapter when the device is stopped and no call is under way: what was not given back is
/// then reported as leaked, and its memory kept out of circulation.
/// </remarks>
public sealed partial class DmaAdapter : IDisposable, IWaiterQueue
{
    private const int PageLog2 = 12;
    private const uint PageMask = (1 << PageLog2) - 1;

    private readonly DmaSystem _system;
    private readonly IPlatform _platform;
    private readonly IDmaBackend _backend;
    private readonly MappingTable _table;
    private readonly ElementPool _elements = new();
    private readonly bool _keepsTime;
    private readonly AdapterVerifier? _verifier;

    // The place in the queue of what is shared with other adapters; null when nothing is.
    private readonly BounceTicket? _ticket;

    private PutClock _putClock;
    private SpinGate _gate;

    // Why nothing is mapped any more: dead, until the device moves to a domain that lives, or disposed; inside the gate.
    private volatile DmaFailure _end;
    private long _number;
    private int _registersFree;
    private long _outstanding;
    private long _returned;
    private long _requests;
    private long _bytes;

    internal DmaAdapter(
        DmaSystem system, PciAddress device, DeviceDescription description, string driver, IDmaBackend backend,
        DmaOptions options)
    {
        (_system, _platform, _backend) = (system, system.Platform, backend);
        (Device, Description, Driver) = (device, description, driver);
        MapRegisters = _registersFree = options.MapRegistersPerAdapter;
        _keepsTime = backend.ReportsFaults;
        _ticket = backend.Ticket;
        _pending = new(_platform.Clock, OnCallbackFailed);
        _blocked = new(_platform.Clock, system.Failures);
        if (_ticket is not null) { _ticket.Serve = own => Serve(ofAnother: !own); }
        if (system.Verifier is { } verifier) { _verifier = new(this, verifier); }
        _table = new(this, options.RecentMappings);
    }

    /// <summary>The device.</summary>
    public PciAddress Device { get; }

    /// <summary>What the device can do.</summary>
    public DeviceDescription Description { get; }

    /// <summary>The driver's name, as reports quote it.</summary>
    public string Driver { get; }

    /// <summary>Pages that may be mapped for transfers at once.</summary>
    public int MapRegisters { get; }

    /// <summary>Whether the device is remapped, by which policy, and why: now.</summary>
    public DmaCapabilities Capabilities => _backend.Capabilities with { MapRegisters = MapRegisters };

    /// <summary>
    /// What this adapter's DMA came to so far, as far as the adapter knows it: faults are counted by the system.
    /// </summary>
    public DmaStatistics Statistics
    {
        get
        {
            _gate.Enter();
            DmaStatistics now = new(_requests, _bytes, _outstanding, 0, 0, 0, 0, 0)
            {
                Waited = _waited, LongestWaitNanoseconds = _longestWait,
                CallbackFailures = Volatile.Read(ref _callbackFailures),
            };
            _gate.Exit();
            return now with { BouncedBytes = _backend.BouncedBytes };
        }
    }

    /// <summary>
    /// Whether a session's client has the device: what breaks a rule of the DDI is the client's or its device's doing,
    /// and told, but no call of the host throws for it.
    /// </summary>
    internal bool IsLent { get; set; }

    internal MappingTable Table => _table;

    /// <summary>The last mapping number given out: where the adapter's sequence of events stands.</summary>
    internal long LastNumber => Volatile.Read(ref _number);

    /// <summary>Whether it was disposed.</summary>
    internal bool IsReleased => _end == DmaFailure.Disposed;

    /// <summary>Why nothing is mapped any more: dead or disposed; none while it is open.</summary>
    internal DmaFailure Ended => _end;

    /// <summary>Holds this adapter's calls against the rules; null while verification is off.</summary>
    internal AdapterVerifier? Verifier => _verifier;

    /// <summary>
    /// Makes bytes of a buffer reachable for the device, in one direction and no more, and lends the list of their
    /// logical addresses. Never waits.
    /// </summary>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1 and at most <see cref="DeviceDescription.MaximumLength"/>.</param>
    /// <param name="direction">Which way the data goes: it becomes the device's right.</param>
    /// <param name="list">The list; put it exactly once.</param>
    /// <param name="tag">Any number that helps to recognise the request in a report.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <returns>False when resources are short now, or others wait for them: put lists and try again, or
    /// wait.</returns>
    /// <exception cref="DmaException">It cannot succeed by waiting.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The range is empty, longer than the device takes or than the
    /// buffer.</exception>
    public bool TryGetScatterGatherList(
        Mdl mdl, uint offset, uint length, DmaDirection direction, out ScatterGatherLease list, uint tag = 0,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        Check(mdl, offset, length, direction, site, file);
        DmaFailure failure = TryMap(
            new(mdl, offset, length, direction), new(tag, site, file), ahead: false, out list,
            out PhysicalAddress culprit);
        if (failure == DmaFailure.None) { return true; }
        if (failure == DmaFailure.OutOfResources && CouldEver(new(mdl, offset, length, direction)))
        {
            _verifier?.OnShort();
            return false;
        }
        throw Explain(failure, length, culprit);
    }

    /// <summary>
    /// Ends a transfer: the device can no longer reach the buffer (by the policy in force), and its data is in the
    /// buffer.
    /// </summary>
    /// <param name="list">The list that was got.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <exception cref="InvalidOperationException">It was already put, or belongs to another adapter.</exception>
    public void PutScatterGatherList(
        in ScatterGatherLease list, [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        Mapping? mapping = list.Mapping;
        if (mapping is null || mapping.Adapter != this || !mapping.TryClose(list.Number))
        {
            ThrowNotOurs(list, site, file);
        }
        _verifier?.OnClosing(mapping, site, file);
        bool unmapped = false;
        Exception? thrown = null;
        try { unmapped = _backend.Unmap(mapping); }
        catch (Exception e) { thrown = e; }
        if (!unmapped)
        {
            AbandonPut(mapping, thrown);
            return;
        }
        _verifier?.OnClosed(mapping, site, file);
        Mdl mdl = mapping.Transfer.Mdl!;
        (int registers, DmaChannel? channel) = (mapping.Backend.MapRegisters, mapping.Backend.Channel);
        DmaReservation? reservation = mapping.Backend.Reservation?.Owner;
        Recycle(mapping);
        bool exact = false;
        long time = _keepsTime ? _putClock.Read(_platform.Clock, out exact) : 0;
        mapping.Retire(site, file, time, exact);
        mdl.UnpinChain();
        _gate.Enter();
        _table.Give(mapping);
        if (reservation is null || channel is not null) { GiveRegisters(registers, channel); }
        reservation?.GiveRecord(_table.TakeWithoutGrowing());
        _outstanding--;
        _returned++;
        bool othersWait = OthersWait;
        _gate.Exit();
        if (othersWait) { Serve(); }
        reservation?.Leave();
        _ticket?.Wake();
        if (_verifier is not null) { DmaVerifier.Conclude(); }
    }

    private DmaFailure TryMap(
        in Transfer transfer, in MappingOrigin origin, bool ahead, out ScatterGatherLease list,
        out PhysicalAddress culprit, DmaChannel? channel = null)
    {
        (list, culprit) = (default, default);
        int registers = RegistersOf(transfer.Mdl!, transfer.Offset, transfer.Length);
        transfer.Mdl!.PinChain();
        _gate.Enter();
        ref int free = ref _registersFree;
        if (channel is not null) { free = ref channel.FreeRegisters; }
        bool behind = !ahead && channel is null && (_waiters.First is not null || ChannelIsBefore(long.MaxValue));
        if (_end != DmaFailure.None || behind || registers > free || channel is { Ended: true })
        {
            DmaFailure end = _end;
            _gate.Exit();
            transfer.Mdl.UnpinChain();
            // It lacks what only this adapter's own puts bring back: others need not wait behind it.
            if (ahead && channel is null) { _ticket?.Leave(); }
            DmaFailure refusal = end != DmaFailure.None ? end : DmaFailure.OutOfResources;
            return ahead || _verifier is null ? refusal
                : _verifier.OnRefused(refusal, transfer, RegistersOf(transfer.Mdl, transfer.Offset, transfer.Length),
                    default, origin);
        }
        free -= registers;
        _outstanding++;
        _requests++;
        _bytes += transfer.Length;
        long number = ++_number;
        Mapping mapping = _table.Take();
        _gate.Exit();

        mapping.Transfer = transfer;
        (mapping.Backend.MapRegisters, mapping.Backend.Channel) = (registers, channel);
        mapping.Backend.Ticket = ahead && channel is null ? _ticket : null;
        _verifier?.Guard(mapping);
        DmaFailure failure = Fill(mapping, number, transfer, origin, out list, out culprit);
        if (failure == DmaFailure.None) { return failure; }
        transfer.Mdl.UnpinChain();
        _gate.Enter();
        _table.GiveUnused(mapping);
        GiveRegisters(registers, channel);
        _outstanding--;
        _requests--;
        _bytes -= transfer.Length;
        bool othersWait = !ahead && OthersWait;
        // Also when nobody is in the queue: someone may be about to queue who found these registers gone.
        if (!ahead) { _returned++; }
        _gate.Exit();
        if (othersWait) { Serve(); }
        return failure;
    }

    // A record that was taken becomes the list of its transfer, or is empty again.
    // One of its two callers is the data path, and 4 % faster in one piece with it.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private DmaFailure Fill(
        Mapping mapping, long number, in Transfer transfer, in MappingOrigin origin, out ScatterGatherLease list,
        out PhysicalAddress culprit)
    {
        list = default;
        ElementBuilder builder = new(mapping, Description, _elements);
        DmaFailure failure = _backend.TryMap(mapping, ref builder, out Footprint footprint, out culprit);
        if (failure == DmaFailure.Dead) { KeepForGood(mapping.Transfer.Mdl!); }
        if (failure == DmaFailure.None && mapping.Count > 1 && !Description.ScatterGather)
        {
            _backend.Unmap(mapping);
            failure = DmaFailure.TooFragmented;
        }
        if (_verifier is { } verifier)
        {
            failure = Verify(verifier, failure, mapping, number, transfer, culprit, origin);
        }
        if (failure == DmaFailure.None)
        {
            mapping.Publish(number, footprint, origin, common: false);
            list = new(mapping, number);
            return DmaFailure.None;
        }
        Recycle(mapping);
        return failure;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private DmaFailure Verify(
        AdapterVerifier verifier, DmaFailure failure, Mapping mapping, long number, in Transfer transfer,
        PhysicalAddress culprit, in MappingOrigin origin)
    {
        if (failure == DmaFailure.None)
        {
            if (verifier.OnMapped(mapping, number, origin)) { return failure; }
            _backend.Unmap(mapping);
            verifier.Forget(mapping);
            return DmaFailure.RuleBroken;
        }
        verifier.Forget(mapping);
        return verifier.OnRefused(failure, transfer, mapping.Backend.MapRegisters, culprit, origin);
    }

    // Inside the gate.
    private bool OthersWait => _waiters.First is not null || _channelRequests.First is not null;

    // Inside the gate.
    private void GiveRegisters(int registers, DmaChannel? channel)
    {
        if (channel is null) { _registersFree += registers; }
        else { channel.FreeRegisters += registers; }
    }

    // Drops what the record holds of others, so that history keeps no buffer alive.
    private void Recycle(Mapping mapping)
    {
        ScatterGatherElement[]? theirs = mapping.Transfer.Elements;
        mapping.Transfer = default;
        mapping.Backend = default;
        if (mapping.Many is not { } many) { return; }
        mapping.Many = null;
        if (many != theirs) { _elements.Return(many); }
    }

    private void Check(Mdl mdl, uint offset, uint length, DmaDirection direction, string site = "", string file = "")
    {
        ArgumentNullException.ThrowIfNull(mdl);
        if (direction is < DmaDirection.ToDevice or > DmaDirection.Bidirectional)
        {
            throw new ArgumentOutOfRangeException(nameof(direction), $"{(int)direction} is no direction");
        }
        _verifier?.CheckRange(mdl, offset, length, site, file);
        if (length == 0 || length > Description.MaximumLength)
        {
            throw new ArgumentOutOfRangeException(
                nameof(length),
                $"a transfer has 1 to {Description.MaximumLength} bytes on {Driver} {Device}, not {length}");
        }
        _ = new MdlCursor(mdl, offset, length);
    }

    private bool CouldEver(in Transfer transfer) =>
        RegistersOf(transfer.Mdl!, transfer.Offset, transfer.Length) <= MapRegisters - RegistersSetAside
            && _backend.CouldEver(transfer, Volatile.Read(ref _setAside));

    private static int RegistersOf(Mdl mdl, uint offset, uint length)
    {
        if ((ulong)offset + length <= mdl.ByteCount) { return PagesIn(mdl, offset, length); }
        int pages = 0;
        for (MdlCursor cursor = new(mdl, offset, length); cursor.NextPiece(out Mdl part, out uint at, out uint here);)
        {
            pages += PagesIn(part, at, here);
        }
        return pages;
    }

    private static int PagesIn(Mdl part, uint offset, uint length)
    {
        ulong start = (ulong)part.ByteOffset + offset;
        return (int)(((start + length - 1) >> PageLog2) - (start >> PageLog2)) + 1;
    }

    internal DmaException Explain(DmaFailure failure, ulong length, PhysicalAddress culprit) =>
        failure == DmaFailure.RuleBroken ? DmaVerifier.Broken() : new DmaException(failure, failure switch
    {
        DmaFailure.Unreachable =>
            $"the page at {culprit} is out of reach of {Driver} {Device} ({Description.AddressBits} address bits) "
            + "and nothing copies for it: set DmaOptions.Bounce, or start with a remapping unit",
        DmaFailure.NotABuffer =>
            $"the page at {culprit} is {_platform.Frames.KindOf(culprit)} and not a buffer: no device may reach it",
        DmaFailure.TooFragmented =>
            $"{Driver} {Device} takes a list of one element and these {length} bytes do not join into one",
        DmaFailure.Dead => $"the DMA of {Driver} {Device} was declared dead: the device is blocked",
        DmaFailure.Disposed => $"the DMA adapter of {Driver} {Device} was disposed",
        _ => $"{length} bytes are more than {Driver} {Device} can ever map at once: "
            + $"out of map registers, logical space or memory{WhatIsSetAside}",
    });

    [DoesNotReturn]
    private void ThrowNotOurs(in ScatterGatherLease list, string site, string file)
    {
        _verifier?.OnBadPut(list, site, file);
        if (list.Mapping is { } mapping && mapping.Adapter != this)
        {
            throw new InvalidOperationException(
                $"scatter/gather list #{list.Number} belongs to {mapping.Adapter.Driver} {mapping.Adapter.Device}, "
                + $"not to {Driver} {Device}");
        }
        ScatterGatherLease.ThrowStale(list.Mapping, list.Number);
        throw new InvalidOperationException();
    }
}
