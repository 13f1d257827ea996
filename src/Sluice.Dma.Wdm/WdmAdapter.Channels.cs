using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Sluice.Dma.Wdm;

// Rows 4 to 8: a channel and map registers for one request at a time, mapped run by run.
public sealed partial class WdmAdapter
{
    private static readonly DmaChannelCallback ChannelGranted =
        static (channel, failure, state) =>
        {
            var request = (WdmChannelRequest)state!;
            request.Adapter.Granted(request, channel, failure);
        };

    // Who has the channel and keeps it: KeepObject, or a synchronous request without a callback.
    private MapRegisterBase? _kept;

    // How many keep nothing, or have still to say whether they do: their turn came when the device's DMA had ended. Any
    // number may, and all are alike.
    private int _keptOfNothing;

    // The thread that runs an AdapterControl of ours, or 0: there is one at a time, because the channel is exclusive.
    private int _controlThread;

    /// <summary>
    /// AllocateAdapterChannel: calls back when channel and map registers are the driver's: now, or in its turn.
    /// </summary>
    /// <remarks>
    /// At DISPATCH_LEVEL, not from inside an AdapterControl. What the routine returns says what becomes of both. One
    /// request of a device object waits at a time.
    /// </remarks>
    /// <param name="device">Whose current IRP the callback gets.</param>
    /// <param name="numberOfMapRegisters">1 to <see cref="NumberOfMapRegisters"/>.</param>
    /// <param name="executionRoutine">AdapterControl; exactly once after success. When the device's DMA ended while the
    /// request waited, it gets map registers through which nothing can be mapped. When the adapter was put meanwhile,
    /// it does not run.</param>
    /// <param name="context">Handed to it.</param>
    /// <returns>Success, granted or queued; InsufficientResources: more than were granted at the start;
    /// InvalidParameter: fewer than one; DeviceBusy: the device object waits already; InvalidDeviceRequest: called from
    /// inside an AdapterControl, or the adapter was put; DeviceNotConnected: the device is blocked. The callback never
    /// runs after an error.</returns>
    public NtStatus AllocateAdapterChannel(
        WdmDeviceObject device, int numberOfMapRegisters, DriverControl executionRoutine, object? context)
    {
        Enter(DdiFunction.AllocateAdapterChannel);
        ArgumentNullException.ThrowIfNull(device);
        ArgumentNullException.ThrowIfNull(executionRoutine);
        VerifyRegisters(DdiFunction.AllocateAdapterChannel, device, numberOfMapRegisters);
        NtStatus status = CheckRegisters(numberOfMapRegisters);
        return status.IsSuccess() ? Queue(new(this, device, numberOfMapRegisters, executionRoutine, context, null))
            : status;
    }

    /// <summary>
    /// MapTransfer: loads map registers for one run of a buffer, and starts the controller for a subordinate device.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below. Call it until all is mapped or no register is left.</remarks>
    /// <param name="mdl">The buffer; only this MDL, without its chain.</param>
    /// <param name="mapRegisterBase">From AdapterControl.</param>
    /// <param name="currentVa">Where in the MDL the run starts.</param>
    /// <param name="length">In: bytes left to map, at least 1. Out: bytes mapped: fewer when the run ends before, or
    /// the registers do.</param>
    /// <param name="writeToDevice">Whether the device reads.</param>
    /// <returns>Where the device finds the first byte.</returns>
    /// <exception cref="ArgumentOutOfRangeException">No byte, or bytes outside the MDL.</exception>
    /// <exception cref="InvalidOperationException">The registers were freed, or are another adapter's.</exception>
    /// <exception cref="DmaException">No register is free, or a page cannot be made reachable at all: the function has
    /// no status to say so.</exception>
    public LogicalAddress MapTransfer(
        Mdl mdl, MapRegisterBase mapRegisterBase, VirtualAddress currentVa, ref uint length, bool writeToDevice)
    {
        Enter(DdiFunction.MapTransfer);
        Own(DdiFunction.MapTransfer, mapRegisterBase);
        if (!IsHeld(DdiFunction.MapTransfer, mapRegisterBase))
        {
            throw new InvalidOperationException($"{Driver} maps through map registers that were freed");
        }
        Verify(DdiFunction.MapTransfer, mdl, currentVa, length, chained: false);
        uint offset = OffsetIn(mdl, currentVa);
        ArgumentOutOfRangeException.ThrowIfZero(length);
        DmaDirection direction = Direction(writeToDevice);
        uint wanted = Math.Min(length, mdl.ByteCount - offset);
        ScatterGatherLease lease = Map(mapRegisterBase, mdl, offset, wanted, direction,
            IsSubordinate ? int.MaxValue : 1, out uint mapped);
        MappedRun run = new(mdl, offset, mapped, direction, lease);
        lock (mapRegisterBase.Lock) { mapRegisterBase.Runs.Add(run); }
        LogicalAddress first = lease[0].Address;
        bool verified = false;
        try
        {
            VerifyMapped(DdiFunction.MapTransfer, mapRegisterBase, mdl, offset, mapped, direction);
            verified = true;
            if (IsSubordinate) { StartRun(mdl, offset, mapped, direction, lease); }
        }
        catch
        {
            // What is thrown is not mapped.
            bool ours;
            lock (mapRegisterBase.Lock) { ours = mapRegisterBase.Runs.Remove(run); }
            if (verified) { mapRegisterBase.Verified?.Undo(mdl, offset); }
            if (ours) { Flush(lease, nameof(MapTransfer)); }
            throw;
        }
        length = mapped;
        return first;
    }

    /// <summary>
    /// FlushAdapterBuffers: ends runs that were mapped; data from the device is in the buffer only now.
    /// </summary>
    /// <remarks>At DISPATCH_LEVEL or below; before the IRP is completed, and before the registers are freed.</remarks>
    /// <param name="mdl">As it was mapped.</param>
    /// <param name="mapRegisterBase">From AdapterControl.</param>
    /// <param name="currentVa">Where a run starts, as it was given to MapTransfer.</param>
    /// <param name="length">The bytes of that run, or of it and of runs that follow it.</param>
    /// <param name="writeToDevice">As it was mapped.</param>
    /// <returns>False when no such runs are mapped; then nothing was flushed. Whatever the end of one throws, all are
    /// flushed, and what the first threw comes out at the end.</returns>
    public bool FlushAdapterBuffers(
        Mdl mdl, MapRegisterBase mapRegisterBase, VirtualAddress currentVa, uint length, bool writeToDevice)
    {
        Enter(DdiFunction.FlushAdapterBuffers);
        Own(DdiFunction.FlushAdapterBuffers, mapRegisterBase);
        if (!IsHeld(DdiFunction.FlushAdapterBuffers, mapRegisterBase)) { return false; }
        Verify(DdiFunction.FlushAdapterBuffers, mdl, currentVa, 1);
        uint offset = OffsetIn(mdl, currentVa);
        VerifyFlush(DdiFunction.FlushAdapterBuffers, mapRegisterBase, mdl, offset, length, writeToDevice);
        List<MappedRun> runs = [];
        lock (mapRegisterBase.Lock)
        {
            uint done = 0;
            while (done < length)
            {
                uint next = offset + done;
                int at = mapRegisterBase.Runs.FindIndex(r => r.Mdl == mdl && r.Offset == next);
                if (at < 0 || mapRegisterBase.Runs[at].Length > length - done
                    || mapRegisterBase.Runs[at].Direction != Direction(writeToDevice))
                {
                    mapRegisterBase.Runs.AddRange(runs);
                    return false;
                }
                runs.Add(mapRegisterBase.Runs[at]);
                mapRegisterBase.Runs.RemoveAt(at);
                done += runs[^1].Length;
            }
        }
        EveryStep.Of(
            StopController,
            () => EveryStep.ForEach(
                CollectionsMarshal.AsSpan(runs), run => Flush(run.Lease, nameof(FlushAdapterBuffers))));
        Conclude();
        return runs.Count > 0;
    }

    /// <summary>FreeAdapterChannel: gives back the channel that was kept, and its map registers.</summary>
    /// <remarks>
    /// At DISPATCH_LEVEL, after KeepObject, after the flush. When another processor is so fast that the AdapterControl
    /// has still to return KeepObject, the channel is free when it does.
    /// </remarks>
    /// <exception cref="InvalidOperationException">No channel is kept, or runs are not flushed.</exception>
    public void FreeAdapterChannel()
    {
        Enter(DdiFunction.FreeAdapterChannel);
        if (Volatile.Read(ref _kept) is null && TakeKeptOfNothing()) { return; }
        if (Volatile.Read(ref _kept) is null)
        {
            Tell(DdiFunction.FreeAdapterChannel, VerificationRule.ChannelFreedTwice, 0,
                "no AdapterControl kept a channel");
        }
        MapRegisterBase kept = Volatile.Read(ref _kept)
            ?? throw new InvalidOperationException($"{Driver} frees a channel that no AdapterControl kept");
        Deallocate(kept, DdiFunction.FreeAdapterChannel);
    }

    /// <summary>FreeMapRegisters: gives back map registers that were kept without the channel.</summary>
    /// <remarks>
    /// At DISPATCH_LEVEL, after DeallocateObjectKeepRegisters, after the flush. When another processor is so fast that
    /// the AdapterControl has still to return that, the registers are free when it does.
    /// </remarks>
    /// <param name="mapRegisterBase">From AdapterControl.</param>
    /// <param name="numberOfMapRegisters">All of them: as many as were asked for.</param>
    /// <exception cref="InvalidOperationException">They were freed, are another adapter's, not that many, or still
    /// mapped; or the channel is still kept.</exception>
    public void FreeMapRegisters(MapRegisterBase mapRegisterBase, int numberOfMapRegisters)
    {
        Enter(DdiFunction.FreeMapRegisters);
        Own(DdiFunction.FreeMapRegisters, mapRegisterBase);
        bool ofChannel;
        lock (mapRegisterBase.Lock) { ofChannel = !mapRegisterBase.RegistersOnly && !mapRegisterBase.InControl; }
        VerifyFree(mapRegisterBase, numberOfMapRegisters, ofChannel);
        if (ofChannel || numberOfMapRegisters != mapRegisterBase.NumberOfMapRegisters)
        {
            throw new InvalidOperationException(!ofChannel
                ? $"{Driver} frees {numberOfMapRegisters} of {mapRegisterBase.NumberOfMapRegisters} map registers"
                : $"{Driver} frees the map registers of a channel that it keeps: free the channel");
        }
        Deallocate(mapRegisterBase, DdiFunction.FreeMapRegisters);
    }

    private NtStatus CheckRegisters(int registers) =>
        registers < 1 ? NtStatus.InvalidParameter
        : registers > NumberOfMapRegisters ? NtStatus.InsufficientResources
        : _controlThread == Environment.CurrentManagedThreadId ? NtStatus.InvalidDeviceRequest
        : NtStatus.Success;

    private NtStatus Queue(WdmChannelRequest request)
    {
        if (Interlocked.CompareExchange(ref request.Device.QueuedChannel, request, null) is not null)
        {
            return NtStatus.DeviceBusy;
        }
        if (request.Transfer is { } context)
        {
            NtStatus status = NtStatus.InvalidParameter;
            try { status = Begin(DdiFunction.AllocateAdapterChannelEx, context, request); }
            finally
            {
                if (!status.IsSuccess()) { request.Device.QueuedChannel = null; }
            }
            if (!status.IsSuccess()) { return status; }
        }
        request.CallerThread = Environment.CurrentManagedThreadId;
        try { Adapter.AllocateChannel(request.Inner, request.MapRegisters, ChannelGranted, request); }
        catch (DmaException e) when (!request.Answered) { Granted(request, null, e.Failure); }
        finally { request.CallerThread = 0; }
        return request.Status;
    }

    private void Granted(WdmChannelRequest request, DmaChannel? channel, DmaFailure failure)
    {
        request.Answered = true;
        Interlocked.CompareExchange(ref request.Device.QueuedChannel, null, request);
        // A call that is still to return says why. Later only the routine can hear of it; and when the adapter was put,
        // nobody is there to hear.
        bool silent = request.CallerThread == Environment.CurrentManagedThreadId || failure == DmaFailure.Disposed;
        if (channel is null && silent)
        {
            request.Transfer?.End();
            request.Status = failure.ToStatus();
            if (request.CallerThread != Environment.CurrentManagedThreadId) { request.Dropped?.Invoke(); }
            return;
        }
        MapRegisterBase granted = new(this, request.Device, channel, request.MapRegisters, request.Transfer);
        request.Transfer?.Granted(granted);
        Control(granted, request.Irp, request.Routine, request.Context);
    }

    // What a routine that throws wants is not known: what it mapped is kept, to be flushed and freed, else nothing is.
    private void Control(MapRegisterBase granted, Irp? irp, DriverControl routine, object? context)
    {
        granted.InControl = true;
        if (granted.Channel is not null) { _kept = granted; }
        else { Interlocked.Increment(ref _keptOfNothing); }
        _controlThread = Environment.CurrentManagedThreadId;
        IoAllocationAction action = IoAllocationAction.DeallocateObject;
        ExceptionDispatchInfo? thrown = null;
        try
        {
            using (IrqlScheduler.Callback()) { action = routine(granted.Device, irp, granted, context); }
        }
        catch (Exception e)
        {
            thrown = ExceptionDispatchInfo.Capture(e);
            lock (granted.Lock)
            {
                if (granted.IsMapped) { action = IoAllocationAction.KeepObject; }
            }
        }
        finally { _controlThread = 0; }
        EveryStep.Of(
            () => thrown?.Throw(),
            () => Apply(granted, action, answered: thrown is null),
            () =>
            {
                if (granted.Afterwards is not { } afterwards) { return; }
                using (IrqlScheduler.Callback()) { afterwards(); }
            });
    }

    private void Apply(MapRegisterBase granted, IoAllocationAction action, bool answered)
    {
        DdiFunction? early;
        bool keepsRegisters = action == IoAllocationAction.DeallocateObjectKeepRegisters;
        lock (granted.Lock)
        {
            (granted.InControl, early) = (false, granted.FreedEarly);
            granted.RegistersOnly = keepsRegisters;
        }
        if (granted.Channel is null)
        {
            bool keeps = action == IoAllocationAction.KeepObject && early is null;
            if (!keeps && !TakeKeptOfNothing()) { early ??= DdiFunction.FreeAdapterChannel; }
            if (action == IoAllocationAction.DeallocateObject) { granted.IsFreed = true; }
        }
        if (early is { } function)
        {
            End(granted);
            if (answered) { VerifyEarly(function, action); }
            return;
        }
        if (granted.Channel is not { } channel)
        {
            granted.Transfer?.End();
            return;
        }
        switch (action)
        {
            case IoAllocationAction.KeepObject:
                break;
            case IoAllocationAction.DeallocateObjectKeepRegisters:
                Interlocked.CompareExchange(ref _kept, null, granted);
                channel.Release();
                break;
            default:
                Deallocate(granted, DdiFunction.FreeAdapterChannel);
                break;
        }
    }

    private void Deallocate(MapRegisterBase granted, DdiFunction how)
    {
        bool mapped;
        bool freed;
        bool early;
        lock (granted.Lock)
        {
            (mapped, freed) = (granted.IsMapped, granted.IsFreed);
            early = granted.InControl && !mapped && !freed;
            if (early) { granted.FreedEarly = how; }
            granted.IsFreed |= !mapped;
        }
        if (mapped) { VerifyFlushed(how, granted); }
        if (mapped || freed)
        {
            throw new InvalidOperationException(freed ? $"{how} by {Driver} of map registers that were freed before"
                : $"{how} by {Driver} while its map registers are mapped: flush first");
        }
        if (!early) { End(granted); }
    }

    private void End(MapRegisterBase granted)
    {
        Interlocked.CompareExchange(ref _kept, null, granted);
        granted.Transfer?.End();
        granted.Channel?.Dispose();
    }

    // Frees a channel that somebody keeps and that is none.
    private bool TakeKeptOfNothing()
    {
        int kept = Volatile.Read(ref _keptOfNothing);
        while (kept > 0)
        {
            int seen = Interlocked.CompareExchange(ref _keptOfNothing, kept - 1, kept);
            if (seen == kept) { return true; }
            kept = seen;
        }
        return false;
    }

    // A piece through the channel's registers; what was set aside helps out when the machine has no memory for tables.
    private ScatterGatherLease Map(
        MapRegisterBase registers, Mdl mdl, uint offset, uint length, DmaDirection direction, int elements,
        out uint mapped)
    {
        (ScatterGatherLease lease, mapped) = (default, 0);
        DmaFailure failure = registers.Channel?.TryMap(
            mdl, offset, length, direction, out lease, out mapped, elements, 0, nameof(MapTransfer), Driver)
            ?? DmaFailure.Dead;
        if (failure == DmaFailure.OutOfResources) { VerifyLoaded(registers); }
        return failure == DmaFailure.None ? lease : throw new DmaException(failure,
            $"{Driver} cannot map {length} bytes through {registers.NumberOfMapRegisters} map registers: {failure}");
    }

    private void Flush(in ScatterGatherLease lease, string how)
    {
        try { Adapter.PutScatterGatherList(lease, how, Driver); }
        finally { ServeStarved(); }
    }

    private void Own(DdiFunction function, MapRegisterBase registers)
    {
        ArgumentNullException.ThrowIfNull(registers);
        if (registers.Adapter != this) { ThrowForeign(function, "map registers", registers.Adapter.Adapter); }
    }

    // What was freed is no use: told, if rules are watched, and left to the function.
    private bool IsHeld(DdiFunction function, MapRegisterBase registers)
    {
        if (!registers.IsFreed) { return true; }
        Tell(function, VerificationRule.UsedAfterFree, 0,
            $"{registers.NumberOfMapRegisters} map registers are used, and they were freed");
        return false;
    }

    private static uint OffsetIn(Mdl mdl, VirtualAddress currentVa)
    {
        ArgumentNullException.ThrowIfNull(mdl);
        ulong distance = currentVa - VirtualAddress.Of(mdl);
        return distance < mdl.ByteCount ? (uint)distance : throw new ArgumentOutOfRangeException(
            nameof(currentVa), $"{currentVa} is outside an MDL of {mdl.ByteCount} bytes at {VirtualAddress.Of(mdl)}");
    }
}
