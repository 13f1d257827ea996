namespace Sluice.Remapping.Tests;

/// <summary>
/// Page frames that come scattered, by a seed. Frames below 1 MiB belong to the firmware, the next MiB to the kernel.
/// </summary>
internal sealed class TestFrames : IFrameAllocator
{
    public const ulong FirmwareEnd = 0x10_0000;
    public const ulong KernelEnd = 0x20_0000;
    private readonly PhysicalMemory _memory;
    private readonly FrameKind[] _kinds;
    private readonly ulong _highFirst;
    private readonly int _lowFrames;
    private readonly Random _random;
    private readonly Lock _one = new();
    private readonly HashSet<int> _old = [];
    private readonly HashSet<int> _ownerless = [];
    private IFlushGate? _gate;
    private int _held;

    public TestFrames(PhysicalMemory memory, ulong lowBytes, ulong highFirst, ulong highBytes, int seed)
    {
        (_memory, _highFirst, _random) = (memory, highFirst, new(seed));
        _lowFrames = (int)(lowBytes >> 12);
        _kinds = new FrameKind[_lowFrames + (int)(highBytes >> 12)];
        for (int i = 0; i < _kinds.Length; i++)
        {
            ulong address = AddressOf(i).Value;
            FrameKind above = address < KernelEnd ? FrameKind.Kernel : FrameKind.Free;
            _kinds[i] = address < FirmwareEnd ? FrameKind.Absent : above;
        }
    }

    /// <summary>Frames that may still be allocated; a test sets it to run out.</summary>
    public int Budget { get; set; } = int.MaxValue;

    /// <summary>Runs before a frame goes into quarantine: another thread's turn.</summary>
    public Action<PhysicalAddress>? Quarantining { get; set; }

    /// <summary>Runs when a frame is about to await its flush: another thread's turn.</summary>
    public Action? Holding { get; set; }

    public int QuarantinedFrames => Count(FrameKind.Quarantined);

    public int Count(FrameKind kind)
    {
        lock (_one) { return _kinds.Count(other => other == kind); }
    }

    public IEnumerable<PhysicalAddress> Of(FrameKind kind)
    {
        lock (_one) { return [.. Enumerable.Range(0, _kinds.Length).Where(i => _kinds[i] == kind).Select(AddressOf)]; }
    }

    public int HeldFrames => Volatile.Read(ref _held);

    public void HoldFreed(IFlushGate? gate)
    {
        lock (_one)
        {
            if (gate is not null && _gate is not null) { throw new InvalidOperationException("there is another gate"); }
            _gate = gate;
        }
        while (gate is null && FreeHeld()) { }
    }

    public bool FreeHeld()
    {
        lock (_one)
        {
            foreach (int index in _old) { _kinds[index] = FrameKind.Free; }
            _held -= _old.Count;
            _old.Clear();
            for (int i = 0; i < _kinds.Length; i++)
            {
                if (_kinds[i] == FrameKind.AwaitsFlush) { _old.Add(i); }
            }
            return _old.Count != 0;
        }
    }

    public bool TryAllocate(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last = null)
    {
        if (TryTake(kind, sizeLog2, out first, last)) { return true; }
        if (_gate is not { } gate || HeldFrames == 0) { return false; }
        gate.Flush();
        return TryTake(kind, sizeLog2, out first, last);
    }

    private bool TryTake(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last)
    {
        lock (_one)
        {
            first = default;
            int frames = 1 << (sizeLog2 - 12);
            if (Budget < frames) { return false; }
            int start = _random.Next(_kinds.Length) & ~(frames - 1);
            for (int tried = 0; tried < _kinds.Length; tried += frames)
            {
                int index = (start + tried) % _kinds.Length & ~(frames - 1);
                if (index + frames > _kinds.Length || AddressOf(index) + ((1UL << sizeLog2) - 1) > last)
                {
                    continue;
                }
                if (_kinds.AsSpan(index, frames).ContainsAnyExcept(FrameKind.Free)) { continue; }
                _kinds.AsSpan(index, frames).Fill(kind);
                first = AddressOf(index);
                Assert.True(_memory.TryGetSpan(first, 1 << sizeLog2, out Span<byte> bytes));
                bytes.Clear();
                Budget -= frames;
                return true;
            }
            return false;
        }
    }

    public void Free(PhysicalAddress first, int sizeLog2)
    {
        lock (_one)
        {
            for (int i = 0; i < 1 << (sizeLog2 - 12); i++)
            {
                ref FrameKind kind = ref _kinds[IndexOf(first) + i];
                if (kind is not (FrameKind.Buffer or FrameKind.UnitTable or FrameKind.Kernel))
                {
                    throw new InvalidOperationException($"{first} is {kind}");
                }
                kind = kind == FrameKind.Buffer ? NoOwner() : FrameKind.Free;
            }
        }
    }

    private FrameKind NoOwner()
    {
        if (_gate is not { IsPending: true }) { return FrameKind.Free; }
        Holding?.Invoke();
        _held++;
        return FrameKind.AwaitsFlush;
    }

    public void Quarantine(PhysicalAddress frame)
    {
        Quarantining?.Invoke(frame);
        lock (_one)
        {
            ref FrameKind kind = ref _kinds[IndexOf(frame)];
            if (kind is FrameKind.Absent or FrameKind.Free or FrameKind.Quarantined)
            {
                throw new InvalidOperationException($"the frame at {frame} is {kind} and cannot be quarantined");
            }
            if (kind == FrameKind.AwaitsFlush)
            {
                _ownerless.Add(IndexOf(frame));
                _held--;
            }
            _old.Remove(IndexOf(frame));
            kind = FrameKind.Quarantined;
        }
    }

    public void Release(PhysicalAddress frame)
    {
        lock (_one)
        {
            ref FrameKind kind = ref _kinds[IndexOf(frame)];
            if (kind != FrameKind.Quarantined)
            {
                throw new InvalidOperationException($"the frame at {frame} is {kind}");
            }
            _ownerless.Remove(IndexOf(frame));
            kind = NoOwner();
        }
    }

    public void Reclaim(PhysicalAddress frame)
    {
        lock (_one)
        {
            ref FrameKind kind = ref _kinds[IndexOf(frame)];
            Assert.Equal(FrameKind.Quarantined, kind);
            kind = _ownerless.Remove(IndexOf(frame)) ? NoOwner() : FrameKind.Buffer;
        }
    }

    public FrameKind KindOf(PhysicalAddress address)
    {
        int index = IndexOf(address);
        return index < 0 ? FrameKind.Absent : _kinds[index];
    }

    private PhysicalAddress AddressOf(int index) =>
        new(index < _lowFrames ? (ulong)index << 12 : _highFirst + ((ulong)(index - _lowFrames) << 12));

    private int IndexOf(PhysicalAddress address)
    {
        if (address.Value >> 12 < (ulong)_lowFrames) { return (int)(address.Value >> 12); }
        ulong high = (address.Value - _highFirst) >> 12;
        return high < (ulong)(_kinds.Length - _lowFrames) ? _lowFrames + (int)high : -1;
    }
}
