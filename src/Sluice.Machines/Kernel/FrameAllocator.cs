namespace Sluice.Machines;

/// <summary>
/// The page frames of a machine, one kind byte each. Single frames come from seeded random places, never next to the
/// one before; one block of 2 MiB in eight is kept for contiguous runs until everything else is full. Who does not need
/// memory below 4 GiB gets it above, while there is any: what lies below is all that some devices reach.
/// </summary>
/// <remarks>
/// One lock; not a data path. <see cref="KindOf"/> takes no lock. Frames are numbered densely: low memory, then high.
/// A frame's byte says what it is in its low bits, and in <see cref="Mark"/> what only this class needs to know: of
/// one that awaits its flush, that it did so at the last <see cref="FreeHeld"/>; of one in quarantine, that it has no
/// owner.
/// </remarks>
public sealed partial class FrameAllocator : IFrameAllocator
{
    private const int KindMask = 7;
    private const byte Mark = 8;
    private const int BlockLog2 = 9;
    private const int BlockFrames = 1 << BlockLog2;
    private const int RunBlocksLog2 = 3;
    private const int Tries = 24;
    private const int MaximumSizeLog2 = 30;
    private readonly Lock _lock = new();
    private readonly PhysicalMemory _memory;
    private readonly byte[] _kinds;
    private readonly ushort[] _freeInBlock;
    private readonly ushort[] _heldInBlock;
    private readonly int _lowFrames;
    private readonly int _runPhase;
    private SplitMix _random;
    private int _lastSingle = -2;
    private int _quarantined;
    private int _free;

    /// <summary>
    /// All frames of <paramref name="memory"/> but those below 1 MiB and those in <paramref name="reserved"/>.
    /// </summary>
    internal FrameAllocator(
        PhysicalMemory memory, ulong lowBytes, ulong highBytes, ulong seed, IEnumerable<PhysicalRange> reserved)
    {
        _memory = memory;
        _random = new(seed);
        _runPhase = _random.Below(1 << RunBlocksLog2);
        _lowFrames = (int)(lowBytes >> MachineMap.PageLog2);
        int frames = _lowFrames + (int)(highBytes >> MachineMap.PageLog2);
        _kinds = new byte[frames];
        _freeInBlock = new ushort[(frames + BlockFrames - 1) >> BlockLog2];
        _heldInBlock = new ushort[_freeInBlock.Length];
        _kinds.AsSpan((int)(MachineMap.FirmwareEnd >> MachineMap.PageLog2)).Fill((byte)FrameKind.Free);
        foreach (PhysicalRange range in reserved)
        {
            PhysicalAddress first = range.First.AlignDown(MachineMap.PageLog2);
            for (PhysicalAddress page = first; page <= range.Last; page += MachineMap.PageSize)
            {
                if (TryIndex(page, out int index)) { _kinds[index] = (byte)FrameKind.Absent; }
            }
        }
        for (int block = 0; block < _freeInBlock.Length; block++)
        {
            _freeInBlock[block] = (ushort)Block(block).Count((byte)FrameKind.Free);
            _free += _freeInBlock[block];
        }
    }

    /// <summary>Frames that nobody uses, without those that await a flush.</summary>
    public int FreeFrames => Volatile.Read(ref _free);

    /// <inheritdoc/>
    public int QuarantinedFrames => Volatile.Read(ref _quarantined);

    /// <inheritdoc/>
    public bool TryAllocate(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last = null)
    {
        if (!IsAllocated(kind))
        {
            throw new ArgumentOutOfRangeException(nameof(kind), $"a frame cannot be allocated as {kind}");
        }
        ArgumentOutOfRangeException.ThrowIfLessThan(sizeLog2, MachineMap.PageLog2);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(sizeLog2, MaximumSizeLog2);
        int count = 1 << (sizeLog2 - MachineMap.PageLog2);
        int limit = Limit(last?.Value ?? ulong.MaxValue);
        int index = Take(kind, count, limit);
        if (index < 0 && TryFlush()) { index = Take(kind, count, limit); }
        if (index < 0)
        {
            first = default;
            return false;
        }
        first = AddressOf(index);
        if (_memory.TryGetSpan(first, count << MachineMap.PageLog2, out Span<byte> bytes)) { bytes.Clear(); }
        return true;
    }

    /// <inheritdoc/>
    public void Free(PhysicalAddress first, int sizeLog2)
    {
        if (sizeLog2 is < MachineMap.PageLog2 or > MaximumSizeLog2 || !first.IsAligned(sizeLog2))
        {
            throw new InvalidOperationException($"2^{sizeLog2} bytes at {first} were never allocated");
        }
        int count = 1 << (sizeLog2 - MachineMap.PageLog2);
        lock (_lock)
        {
            int index = Require(first, count);
            FrameKind kind = KindAt(index);
            if (kind is FrameKind.Free or FrameKind.AwaitsFlush)
            {
                throw new InvalidOperationException($"the frame at {first} is free already"
                    + (kind == FrameKind.Free ? "" : " and awaits its flush"));
            }
            if (!IsAllocated(kind) || _kinds.AsSpan(index, count).ContainsAnyExcept((byte)kind))
            {
                throw new InvalidOperationException($"the frames at {first} are not all allocated: {kind}");
            }
            SetKind(index, count, kind == FrameKind.Buffer ? NoOwner : (byte)FrameKind.Free);
        }
    }

    /// <inheritdoc/>
    public void Quarantine(PhysicalAddress frame)
    {
        lock (_lock)
        {
            int index = Require(frame, static kind => IsAllocated(kind) || kind == FrameKind.AwaitsFlush,
                FrameKind.Quarantined);
            const byte Quarantined = (byte)FrameKind.Quarantined;
            bool hasOwner = KindAt(index) != FrameKind.AwaitsFlush;
            SetKind(index, 1, hasOwner ? Quarantined : (byte)(Quarantined | Mark));
        }
    }

    /// <inheritdoc/>
    public void Release(PhysicalAddress frame)
    {
        lock (_lock)
        {
            int index = Require(frame, static kind => kind == FrameKind.Quarantined, FrameKind.Free);
            SetKind(index, 1, NoOwner);
        }
    }

    /// <inheritdoc/>
    public void Reclaim(PhysicalAddress frame)
    {
        lock (_lock)
        {
            int index = Require(frame, static kind => kind == FrameKind.Quarantined, FrameKind.Buffer);
            SetKind(index, 1, (_kinds[index] & Mark) != 0 ? NoOwner : (byte)FrameKind.Buffer);
        }
    }

    /// <inheritdoc/>
    public FrameKind KindOf(PhysicalAddress address) =>
        TryIndex(address, out int index) ? KindAt(index) : FrameKind.Absent;

    private static bool IsAllocated(FrameKind kind) =>
        kind is FrameKind.Buffer or FrameKind.UnitTable or FrameKind.Kernel;

    private FrameKind KindAt(int index) => (FrameKind)(Volatile.Read(ref _kinds[index]) & KindMask);

    private int Take(FrameKind kind, int count, int limit)
    {
        lock (_lock)
        {
            // High memory first, when there is some below the limit.
            int index = limit > _lowFrames ? Find(count, _lowFrames, limit) : -1;
            if (index < 0) { index = Find(count, 0, Math.Min(limit, _lowFrames)); }
            if (index < 0) { return -1; }
            SetKind(index, count, (byte)kind);
            if (count == 1) { _lastSingle = index; }
            return index;
        }
    }

    // Inside the lock. The frame that may become something else.
    private int Require(PhysicalAddress frame, Func<FrameKind, bool> allowed, FrameKind to)
    {
        int index = Require(frame.AlignDown(MachineMap.PageLog2), 1);
        FrameKind kind = KindAt(index);
        return allowed(kind)
            ? index
            : throw new InvalidOperationException($"the frame at {frame} is {kind} and cannot become {to}");
    }

    // Inside the lock. All of them are of one kind.
    private void SetKind(int index, int count, byte kind)
    {
        byte before = _kinds[index];
        _kinds.AsSpan(index, count).Fill(kind);
        int freed = Change(FrameKind.Free);
        int held = Change(FrameKind.AwaitsFlush);
        Volatile.Write(ref _quarantined, _quarantined + Change(FrameKind.Quarantined));
        Volatile.Write(ref _free, _free + freed);
        Volatile.Write(ref _held, _held + held);
        int perBlock = Math.Min(count, BlockFrames);
        for (int block = index >> BlockLog2; block <= (index + count - 1) >> BlockLog2; block++)
        {
            _freeInBlock[block] = (ushort)(_freeInBlock[block] + perBlock * Math.Sign(freed));
            _heldInBlock[block] = (ushort)(_heldInBlock[block] + perBlock * Math.Sign(held));
        }

        int Change(FrameKind of) =>
            ((FrameKind)(kind & KindMask) == of ? count : 0) - ((FrameKind)(before & KindMask) == of ? count : 0);
    }

    private int Find(int count, int from, int limit) =>
        count == 1 ? FindSingle(from, limit) : FindRun(count, from, limit);

    /// <summary>
    /// A few random tries, which is all it takes while memory is not nearly full; then the first place after a random
    /// one.
    /// </summary>
    private int FindSingle(int from, int limit)
    {
        for (int i = 0; i < Tries; i++)
        {
            int index = from + _random.Below(limit - from);
            if (_kinds[index] == (byte)FrameKind.Free && !IsForRuns(index >> BlockLog2) && !IsBesideLast(index))
            {
                return index;
            }
        }
        return Scan(from, limit, runBlocks: false) is int found and >= 0 ? found : Scan(from, limit, runBlocks: true);
    }

    // High memory begins with a block of its own.
    private int Scan(int from, int limit, bool runBlocks)
    {
        int skipped = from >> BlockLog2;
        int blocks = ((limit + BlockFrames - 1) >> BlockLog2) - skipped;
        int start = _random.Below(blocks);
        int beside = -1;
        for (int i = 0; i < blocks; i++)
        {
            int block = skipped + ((start + i) % blocks);
            if (_freeInBlock[block] == 0 || IsForRuns(block) != runBlocks) { continue; }
            Span<byte> kinds = Block(block);
            for (int at = 0; at < kinds.Length; at++)
            {
                int step = kinds[at..].IndexOf((byte)FrameKind.Free);
                if (step < 0) { break; }
                at += step;
                int index = (block << BlockLog2) + at;
                if (index >= limit) { break; }
                if (!IsBesideLast(index)) { return index; }
                beside = index;
            }
        }
        return beside;
    }

    private int FindRun(int count, int from, int limit)
    {
        int found = FindRun(count, from, limit, runBlocks: true);
        return found >= 0 ? found : FindRun(count, from, limit, runBlocks: false);
    }

    private int FindRun(int count, int from, int limit, bool runBlocks)
    {
        int span = Math.Max(count, BlockFrames);
        for (int start = from; start < limit; start += span)
        {
            int block = start >> BlockLog2;
            if (count < BlockFrames && (_freeInBlock[block] < count || IsForRuns(block) != runBlocks)) { continue; }
            for (int at = start; at < start + span && at + count <= limit; at += count)
            {
                // Aligned here is aligned in memory: where there is high memory, it begins at a dense number of 2^19.
                if (!_kinds.AsSpan(at, count).ContainsAnyExcept((byte)FrameKind.Free)) { return at; }
            }
        }
        return -1;
    }

    private bool IsForRuns(int block) => (block & ((1 << RunBlocksLog2) - 1)) == _runPhase;

    private bool IsBesideLast(int index) => index - _lastSingle is -1 or 1;

    private Span<byte> Block(int block)
    {
        int start = block << BlockLog2;
        return _kinds.AsSpan(start, Math.Min(BlockFrames, _kinds.Length - start));
    }

    /// <summary>How many frames, in dense order, end at or below <paramref name="last"/>.</summary>
    private int Limit(ulong last)
    {
        ulong pages = last == ulong.MaxValue ? ulong.MaxValue : (last + 1) >> MachineMap.PageLog2;
        ulong high = MachineMap.HighMemory.Value >> MachineMap.PageLog2;
        ulong limit = pages <= high
            ? Math.Min(pages, (ulong)_lowFrames)
            : Math.Min(pages - high + (ulong)_lowFrames, (ulong)_kinds.Length);
        return (int)Math.Max(limit, 1);
    }

    private int Require(PhysicalAddress first, int count) =>
        TryIndex(first, out int index) && index + count <= (index < _lowFrames ? _lowFrames : _kinds.Length)
            ? index
            : throw new InvalidOperationException($"there is no memory at {first}");

    private PhysicalAddress AddressOf(int index) => index < _lowFrames
        ? new((ulong)index << MachineMap.PageLog2)
        : MachineMap.HighMemory + ((ulong)(index - _lowFrames) << MachineMap.PageLog2);

    private bool TryIndex(PhysicalAddress address, out int index)
    {
        bool high = address >= MachineMap.HighMemory;
        ulong frame = (high ? address - MachineMap.HighMemory : address.Value) >> MachineMap.PageLog2;
        ulong count = (ulong)(high ? _kinds.Length - _lowFrames : _lowFrames);
        index = frame < count ? (int)frame + (high ? _lowFrames : 0) : -1;
        return index >= 0;
    }
}
