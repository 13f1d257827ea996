namespace Sluice.Dma;

/// <summary>
/// A device lent to a client that is not trusted and may vanish at any moment: a process, a connection, a guest. It
/// works with handles and within a quota, its buffers are pinned, and when the session ends, however it ends, the
/// device is blocked and drained before one page of the client goes back to the machine.
/// </summary>
/// <remarks>
/// From <see cref="DmaSystem.OpenSession"/>; whoever notices that the client is gone disposes it, and the end of the
/// system does. Safe from any thread, one call at a time; <see cref="Dispose"/> waits for a call under way, and never
/// for the device. The client's mistakes are <see cref="DmaSessionStatus"/> results; rules of the DDI that it or its
/// device breaks are told (<see cref="DmaSystem.Violated"/>), and no call throws for them.
/// </remarks>
public sealed class DmaSession : IDisposable
{
    private const int PageLog2 = 12;
    private const uint PageMask = (1u << PageLog2) - 1;

    private readonly Lock _lock = new();
    private readonly DmaSystem _system;
    private readonly DmaAdapter _adapter;
    private readonly DmaSessionOptions _options;
    private readonly List<Entry> _entries = [default];
    private readonly Stack<int> _free = new();
    private int _pages;
    private int _handles;
    private bool _revoked;

    internal DmaSession(DmaSystem system, DmaAdapter adapter, DmaSessionOptions options) =>
        (_system, _adapter, _options) = (system, adapter, options);

    /// <summary>The device it was opened for.</summary>
    public PciAddress Device => _adapter.Device;

    /// <summary>The client, as reports name the driver.</summary>
    public string Client => _adapter.Driver;

    /// <summary>Pages that its buffers pin now.</summary>
    public int PinnedPages
    {
        get
        {
            lock (_lock) { return _pages; }
        }
    }

    /// <summary>Takes a zeroed buffer of 1 to 2^30 bytes.</summary>
    /// <param name="length">Bytes.</param>
    /// <param name="buffer">Its handle.</param>
    public DmaSessionStatus TryAllocate(uint length, out DmaHandle buffer)
    {
        buffer = default;
        if (length is 0 or > 1 << 30) { return DmaSessionStatus.BadRange; }
        int pages = (int)((length + PageMask) >> PageLog2);
        lock (_lock)
        {
            if (_revoked) { return DmaSessionStatus.Revoked; }
            if (pages > _options.QuotaPages - _pages || _handles == _options.QuotaHandles)
            {
                return DmaSessionStatus.OverQuota;
            }
            Mdl mdl;
            try { mdl = Mdl.Allocate(_system.Platform, length); }
            catch (DmaException) { return DmaSessionStatus.OutOfResources; }
            _pages += pages;
            buffer = Add(new() { Buffer = mdl, Pages = pages });
            return DmaSessionStatus.Done;
        }
    }

    /// <summary>
    /// Gives a buffer back that is not mapped. Where the policy lets unmapped ranges linger they are flushed first: no
    /// device of this client reaches the pages when this returns. Where a unit does not confirm that, they stay out of
    /// circulation as <see cref="DmaSystem.Leaks"/>, and the client's quota is its own again all the same.
    /// </summary>
    /// <param name="buffer">Its handle.</param>
    public DmaSessionStatus TryFree(DmaHandle buffer)
    {
        lock (_lock)
        {
            DmaSessionStatus status = Find(buffer, mapping: false, out Entry entry);
            if (status != DmaSessionStatus.Done) { return status; }
            if (entry.Mappings != 0) { return DmaSessionStatus.InUse; }
            _adapter.Flush();
            entry.Buffer!.Dispose();
            _pages -= entry.Pages;
            Remove(buffer);
            return DmaSessionStatus.Done;
        }
    }

    /// <summary>Makes bytes of a buffer reachable for the device.</summary>
    /// <param name="buffer">The buffer.</param>
    /// <param name="offset">The first byte.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="direction">Which way the data goes.</param>
    /// <param name="mapping">The mapping's handle.</param>
    public DmaSessionStatus TryMap(
        DmaHandle buffer, uint offset, uint length, DmaDirection direction, out DmaHandle mapping)
    {
        mapping = default;
        lock (_lock)
        {
            DmaSessionStatus status = Find(buffer, mapping: false, out Entry entry);
            if (status != DmaSessionStatus.Done) { return status; }
            if (direction is < DmaDirection.ToDevice or > DmaDirection.Bidirectional || length == 0
                || length > _adapter.Description.MaximumLength || (ulong)offset + length > entry.Buffer!.ByteCount)
            {
                return DmaSessionStatus.BadRange;
            }
            if (_handles == _options.QuotaHandles) { return DmaSessionStatus.OverQuota; }
            ScatterGatherLease list;
            try
            {
                bool got = _adapter.TryGetScatterGatherList(entry.Buffer, offset, length, direction, out list);
                if (!got) { return DmaSessionStatus.OutOfResources; }
            }
            catch (DmaException e)
            {
                return e.Failure == DmaFailure.Dead ? DmaSessionStatus.Dead : DmaSessionStatus.OutOfResources;
            }
            // Whom the get told of a broken rule may have ended the session: the list ended with it.
            if (_revoked) { return DmaSessionStatus.Revoked; }
            _entries[buffer.Slot] = entry with { Mappings = entry.Mappings + 1 };
            mapping = Add(new() { List = list, Of = buffer });
            return DmaSessionStatus.Done;
        }
    }

    /// <summary>Ends a mapping: by the system's policy the device can no longer reach it.</summary>
    /// <param name="mapping">Its handle.</param>
    public DmaSessionStatus TryUnmap(DmaHandle mapping)
    {
        lock (_lock)
        {
            DmaSessionStatus status = Find(mapping, mapping: true, out Entry entry);
            if (status != DmaSessionStatus.Done) { return status; }
            try { _adapter.PutScatterGatherList(entry.List); }
            finally
            {
                // However it went: the list cannot be put again. Nothing is left where the put told somebody of a
                // broken rule who ended the session.
                if (!_revoked)
                {
                    Entry buffer = _entries[entry.Of.Slot];
                    _entries[entry.Of.Slot] = buffer with { Mappings = buffer.Mappings - 1 };
                    Remove(mapping);
                }
            }
            return DmaSessionStatus.Done;
        }
    }

    /// <summary>What the client tells the device: the elements of a mapping, as many as fit.</summary>
    /// <param name="mapping">Its handle.</param>
    /// <param name="elements">Takes them.</param>
    /// <param name="count">How many there are.</param>
    public DmaSessionStatus TryGetElements(DmaHandle mapping, Span<ScatterGatherElement> elements, out int count)
    {
        count = 0;
        lock (_lock)
        {
            DmaSessionStatus status = Find(mapping, mapping: true, out Entry entry);
            if (status != DmaSessionStatus.Done) { return status; }
            count = entry.List.Count;
            for (int i = 0; i < Math.Min(count, elements.Length); i++) { elements[i] = entry.List[i]; }
            return DmaSessionStatus.Done;
        }
    }

    /// <summary>
    /// Copies bytes out of a buffer that is not mapped. <see cref="DmaSessionStatus.Dead"/> once a unit did not confirm
    /// that the device no longer reaches it.
    /// </summary>
    public DmaSessionStatus TryRead(DmaHandle buffer, uint offset, Span<byte> destination)
    {
        lock (_lock)
        {
            DmaSessionStatus status = FindOwned(buffer, offset, destination.Length, out Mdl mdl);
            if (status == DmaSessionStatus.Done) { mdl.CopyTo(offset, destination); }
            return status;
        }
    }

    /// <summary>As <see cref="TryRead"/>, into it.</summary>
    public DmaSessionStatus TryWrite(DmaHandle buffer, uint offset, ReadOnlySpan<byte> source)
    {
        lock (_lock)
        {
            DmaSessionStatus status = FindOwned(buffer, offset, source.Length, out Mdl mdl);
            if (status == DmaSessionStatus.Done) { mdl.CopyFrom(offset, source); }
            return status;
        }
    }

    /// <summary>
    /// Takes everything back, whatever the client or the device is doing: blocks and drains the device, unmaps, and
    /// only then frees. Where a unit does not confirm, what was mapped stays out of circulation as
    /// <see cref="DmaSystem.Leaks"/>. Where blocking the device throws, all the client's pages stay so for good,
    /// whatever is released, and no leak names those that were not mapped. Harmless twice. All of it happens whatever a
    /// step throws: what the first one threw comes out at the end.
    /// </summary>
    public void Dispose()
    {
        lock (_lock)
        {
            if (_revoked) { return; }
            _revoked = true;
            Entry[] entries = [.. _entries];
            bool drained = false;
            try
            {
                EveryStep.Of(
                    // The order is the promise: no DMA of the device passes from here on, ...
                    _adapter.Revoke,
                    () => EveryStep.ForEach<Entry>(entries, entry =>
                    {
                        if (entry.List.IsLive) { _adapter.PutScatterGatherList(entry.List); }
                    }),
                    // ... not even through a domain that others keep alive, where the policy lets unmapped ranges
                    // linger, ...
                    () =>
                    {
                        _adapter.Revoke();
                        drained = true;
                    },
                    _adapter.Dispose,
                    () => _system.Remove(this),
                    // ... and the pages go back last.
                    () => EveryStep.ForEach<Entry>(entries, entry => Free(entry.Buffer, drained)));
            }
            finally
            {
                _entries.Clear();
                (_pages, _handles) = (0, 0);
            }
        }
    }

    // Pages of a client whose device could not be drained stay out of circulation for good.
    private void Free(Mdl? buffer, bool drained)
    {
        if (buffer is null) { return; }
        if (!drained) { LeakedFrames.Of(_system.Platform).Add(buffer.Pages, []); }
        buffer.Dispose();
    }

    private DmaSessionStatus FindOwned(DmaHandle buffer, uint offset, int length, out Mdl mdl)
    {
        DmaSessionStatus status = Find(buffer, mapping: false, out Entry entry);
        mdl = entry.Buffer!;
        if (status != DmaSessionStatus.Done) { return status; }
        if (entry.Mappings != 0) { return DmaSessionStatus.InUse; }
        // Unmapped, but the unit did not confirm it: the bytes are the device's until the leak is released.
        if (mdl.MappedTransfers != 0) { return DmaSessionStatus.Dead; }
        return (ulong)offset + (uint)length > mdl.ByteCount ? DmaSessionStatus.BadRange : DmaSessionStatus.Done;
    }

    private DmaSessionStatus Find(DmaHandle handle, bool mapping, out Entry entry)
    {
        entry = default;
        if (_revoked) { return DmaSessionStatus.Revoked; }
        if (handle.Slot <= 0 || handle.Slot >= _entries.Count) { return DmaSessionStatus.BadHandle; }
        entry = _entries[handle.Slot];
        bool ours = entry.IsTaken && DmaHandle.From(handle.Slot, entry.Turn) == handle
            && mapping == (entry.Buffer is null);
        return ours ? DmaSessionStatus.Done : DmaSessionStatus.BadHandle;
    }

    private DmaHandle Add(Entry entry)
    {
        _handles++;
        if (!_free.TryPop(out int slot))
        {
            slot = _entries.Count;
            _entries.Add(default);
        }
        uint turn = _entries[slot].Turn + 1;
        _entries[slot] = entry with { Turn = turn, IsTaken = true };
        return DmaHandle.From(slot, turn);
    }

    private void Remove(DmaHandle handle)
    {
        _handles--;
        _entries[handle.Slot] = new() { Turn = _entries[handle.Slot].Turn };
        _free.Push(handle.Slot);
    }

    private readonly record struct Entry
    {
        public uint Turn { get; init; }

        public bool IsTaken { get; init; }

        public Mdl? Buffer { get; init; }

        public int Pages { get; init; }

        public int Mappings { get; init; }

        public ScatterGatherLease List { get; init; }

        public DmaHandle Of { get; init; }
    }
}
