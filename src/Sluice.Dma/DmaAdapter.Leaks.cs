using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Sluice.Remapping;

namespace Sluice.Dma;

// The end of an adapter. What was not given back is reported, and neither its frames nor its addresses are used again
// until somebody says that the device is quiet.
public sealed partial class DmaAdapter
{
    private const int LongestServiceMilliseconds = 1000;
    private static long s_serial;
    private int _leaks;
    private bool _backendClosed;

    /// <summary>Tells it apart from every other, also of the same device, for what must not keep it alive.</summary>
    internal long Serial { get; } = Interlocked.Increment(ref s_serial);

    /// <summary>
    /// Ends the device's DMA. Requests still waiting fail with <see cref="DmaFailure.Disposed"/>; lists and common
    /// buffers not given back become <see cref="DmaSystem.Leaks"/>. Harmless twice. All of it happens whatever a step
    /// throws: what the first one threw comes out at the end.
    /// </summary>
    public void Dispose()
    {
        _gate.Enter();
        bool first = _end != DmaFailure.Disposed;
        _end = DmaFailure.Disposed;
        _gate.Exit();
        if (!first) { return; }
        // Twice: first while the mappings are what they were for the DMAs that were refused until now, and then, while
        // the history is still the adapter's, whatever the device was refused until it was blocked.
        EveryStep.Of(
            ReadFaults,
            AwaitServers,
            _pending.Finish,
            AnswerWaiters,
            () => Serve(),
            () => EveryStep.ForEach(_table.All, AbandonIfLive),
            CloseReservations,
            CloseBackend,
            WakeForPages,
            ReadFaults,
            () => _system.Remove(this),
            () => _verifier?.OnReleased(new(DisposeMember, nameof(DmaAdapter))));
        if (_verifier is not null) { DmaVerifier.Conclude(); }
    }

    private void ReadFaults() => _system.ReadFaults();

    private void AnswerWaiters()
    {
        while (true)
        {
            _gate.Enter();
            ScatterGatherWaiter? waiter = _waiters.First;
            bool ours = waiter is not null && _waiters.Remove(waiter);
            _gate.Exit();
            if (!ours) { break; }
            Answer(waiter!, default, DmaFailure.Disposed, default, default, 0);
        }
    }

    private void AbandonIfLive(Mapping mapping)
    {
        if (mapping.Phase != MappingPhase.Live || !mapping.TryClose(mapping.Number)) { return; }
        _verifier?.OnOutstanding(mapping);
        Abandon(mapping);
    }

    private void CloseBackend()
    {
        _gate.Enter();
        _backendClosed = true;
        bool leaked = _leaks > 0;
        _gate.Exit();
        lock (_system.DomainLock)
        {
            // While it is known whose they were: what was put and that no unit confirms.
            EveryStep.Of(_backend.Flush, CollectLost, () => _backend.Close(leaked));
        }
    }

    /// <summary>Makes unreachable what was put before, or reports it as leaked.</summary>
    internal void Flush()
    {
        _backend.Flush();
        CollectLost();
    }

    /// <summary>
    /// What was put in the domain of this device and had not been flushed when its unit died: leaks that no driver is
    /// guilty of.
    /// </summary>
    internal void CollectLost()
    {
        while (Domain.Space is { } space && space.TryTakeLost(out LostMapping? lost))
        {
            List<PhysicalAddress> pages = [];
            LeakedFrames.Of(_platform).Add([.. lost.Pages], pages);
            DmaAdapter owner = RecordOf(lost, out MappingRecord record);
            _system.Add(new DmaLeak(owner, null, record, pages));
        }
    }

    /// <summary>Ends a leak of what was put; false when its memory can never be used again.</summary>
    /// <param name="pages">Its frames.</param>
    /// <param name="domain">Where they were mapped.</param>
    internal bool ReleaseLost(List<PhysicalAddress> pages, DmaDomain domain)
    {
        lock (_system.DomainLock)
        {
            // While the adapter is open the driver itself says that the device is quiet. Afterwards nobody can, nor for
            // the domain's other devices: the unit that would have to is dead.
            if (_backendClosed || domain.Reaching > (domain == Domain ? 1 : 0)) { return false; }
        }
        LeakedFrames.Of(_platform).End(CollectionsMarshal.AsSpan(pages));
        return true;
    }

    // The mapping that was put last where these pages were, by any driver of the domain; made up where the history has
    // forgotten it.
    private DmaAdapter RecordOf(LostMapping lost, out MappingRecord record)
    {
        DmaAdapter owner = this;
        record = new()
        {
            Owner = Driver,
            Device = Device,
            AdapterSerial = Serial,
            First = lost.Range.First,
            Length = (ulong)lost.Pages.Count << PageLog2,
            Reach = lost.Range,
            GuardLast = lost.Range.Last,
            Direction = DmaDirection.Bidirectional,
            IsContiguous = true,
        };
        foreach (DmaAdapter adapter in _system.Adapters)
        {
            if (adapter.Domain != Domain) { continue; }
            foreach (Mapping mapping in adapter._table.All)
            {
                if (mapping.TryCapture(out MappingRecord found) && found.Reach.First == lost.Range.First
                    && found.State == MappingState.Unmapped && (record.Number == 0 || found.IsLaterThan(record)))
                {
                    (owner, record) = (adapter, found);
                }
            }
        }
        record = record with { State = MappingState.Leaked };
        return owner;
    }

    /// <summary>Ends a leak, whose frames are these; false when its memory can never be used again.</summary>
    internal bool ReleaseLeak(Mapping mapping, List<PhysicalAddress> pages)
    {
        // Read while it holds its addresses, as for a put.
        long closedAt = LastNumber;
        lock (_system.DomainLock)
        {
            // While the adapter is open the driver itself says that the device is quiet. It does not say so of others
            // in the domain, and nobody does afterwards: what no unit confirms stays out of circulation.
            if ((_backendClosed || Domain.Reaching > 1) && !_backend.Forget(mapping)) { return false; }
        }
        LeakedFrames.Of(_platform).End(CollectionsMarshal.AsSpan(pages));
        _backend.Reclaim(mapping);
        Mdl? mdl = mapping.Transfer.Mdl;
        Recycle(mapping);
        mapping.Common = default;
        mapping.End(closedAt, nameof(DmaLeak.Release), nameof(DmaLeak), _platform.Clock.Nanoseconds);
        mdl?.UnpinChain();
        _gate.Enter();
        _table.Give(mapping);
        bool last = --_leaks == 0 && _backendClosed;
        _gate.Exit();
        if (last)
        {
            lock (_system.DomainLock) { _backend.Release(); }
        }
        return true;
    }

    /// <summary>After a leak was released: others may wait for what it held.</summary>
    internal void WakeForPages() => _ticket?.Wake();

    // A map that the unit did not confirm. When it was not even tried, because the device is blocked, nothing is in
    // quarantine for it.
    private void KeepForGood(Mdl mdl)
    {
        // What is in quarantine for a leak stays so for that.
        CollectLost();
        LeakedFrames.Of(_platform).KeepForGood(mdl.PagesOfChain());
    }

    // Puts of other adapters serve this one's queue when both share a pool, and its driver cannot know when. Whoever
    // began before the adapter closed ends within a few calls; this thread's own service, if it is in a callback of it,
    // finds the queue closed.
    private void AwaitServers()
    {
        if (_ticket is null || Volatile.Read(ref _server) == Environment.CurrentManagedThreadId) { return; }
        SpinWait.SpinUntil(() => Volatile.Read(ref _serveCalls) == 0, LongestServiceMilliseconds);
    }

    // A put that the unit did not confirm, or that threw: perhaps the device reaches the pages for ever.
    private void AbandonPut(Mapping mapping, Exception? thrown)
    {
        DmaReservation? broken = mapping.Backend.Reservation?.Owner;
        (int lost, DmaChannel? cut) = (mapping.Backend.MapRegisters, mapping.Backend.Channel);
        EveryStep.Of(
            () => AbandonAfter(thrown, mapping),
            () => EndLeaked(broken is null || cut is not null ? lost : 0, cut),
            () => broken?.Leave(),
            WakeForPages);
        if (_verifier is not null) { DmaVerifier.Conclude(); }
    }

    // The leak keeps pages and addresses, not map registers: whoever waits for those goes on, or hears that the device
    // is blocked.
    private void EndLeaked(int registers, DmaChannel? channel)
    {
        _gate.Enter();
        GiveRegisters(registers, channel);
        _outstanding--;
        _returned++;
        bool othersWait = OthersWait;
        _gate.Exit();
        if (othersWait) { Serve(); }
    }

    // What went wrong before comes out when the mapping is a leak.
    private void AbandonAfter(Exception? thrown, Mapping mapping) => EveryStep.Of(
        () =>
        {
            if (thrown is not null) { ExceptionDispatchInfo.Throw(thrown); }
        },
        () => Abandon(mapping));

    // A mapping that will never be given back, because its driver did not, or because the unit no longer answers.
    // Only by who closed it.
    private void Abandon(Mapping mapping)
    {
        List<PhysicalAddress> pages = [];
        EveryStep.Of(
            () => _verifier?.OnLeaked(mapping),
            () => Withdraw(mapping, pages),
            () => _backend.Abandon(mapping),
            () =>
            {
                mapping.Quarantine();
                _gate.Enter();
                _leaks++;
                _gate.Exit();
                if (mapping.TryCapture(out MappingRecord record)) { _system.Add(new(this, mapping, record, pages)); }
            });
    }

    private void Withdraw(Mapping mapping, List<PhysicalAddress> withdrawn)
    {
        LeakedFrames leaked = LeakedFrames.Of(_platform);
        if (mapping.Transfer.Mdl is { } mdl)
        {
            leaked.Add(mdl.PagesOfChain(), withdrawn);
            return;
        }
        leaked.Add(mapping.Common.Pages, withdrawn);
        // They were the common buffer's, and nobody else gives them back.
        leaked.Give(CollectionsMarshal.AsSpan(withdrawn));
    }
}
