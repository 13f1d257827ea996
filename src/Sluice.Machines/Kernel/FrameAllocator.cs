namespace Sluice.Machines;

/// <summary>
/// The page frames of a machine, one kind byte each. Single frames come from seeded random places, never next to the
/// one before; one block of 2 MiB in eight is kept for contiguous runs until everything else is full. Who does not need
/// memory below 4 GiB gets it above, while there is any: what lies below is all that some devices reach.
/// </summary>
/// <remarks>
/// One lock; not a data path. <see cref="KindOf"/> takes no lock. Frames are numbered densely: low memory, then high.
/// </remarks>
public sealed class FrameAllocator : IFrameAllocator
{
    private const int BlockLog2 = 9;
    private const int BlockFrames = 1 << BlockLog2;
    private const int RunBlocksLog2 = 3;
    private const int Tries = 24;
    private const int MaximumSizeLog2 = 30;
    private readonly Lock _lock = new();
    private readonly PhysicalMemory _memory;
    private readonly byte[] _kinds;
    private readonly ushort[] _freeInBlock;
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

    /// <summary>Frames that nobody uses.</summary>
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
        int index;
        lock (_lock)
        {
            // High memory first, when there is some below the limit.
            index = limit > _lowFrames ? Find(count, _lowFrames, limit) : -1;
            if (index < 0) { index = Find(count, 0, Math.Min(limit, _lowFrames)); }
            if (index < 0)
            {
                first = default;
                return false;
            }
            SetKind(index, count, kind);
            if (count == 1) { _lastSingle = index; }
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
            byte kind = _kinds[index];
            if (kind is (byte)FrameKind.Free)
            {
                throw new InvalidOperationException($"the frame at {first} is free already");
            }
            if (kind is (byte)FrameKind.Absent or (byte)FrameKind.Quarantined
                || _kinds.AsSpan(index, count).ContainsAnyExcept(kind))
            {
                throw new InvalidOperationException($"the frames at {first} are not all allocated: {(FrameKind)kind}");
            }
            SetKind(index, count, FrameKind.Free);
        }
    }

    /// <inheritdoc/>
    public void Quarantine(PhysicalAddress frame) => Change(frame, IsAllocated, FrameKind.Quarantined);

    /// <inheritdoc/>
    public void Release(PhysicalAddress frame) =>
        Change(frame, static kind => kind == FrameKind.Quarantined, FrameKind.Free);

    /// <inheritdoc/>
    public void Reclaim(PhysicalAddress frame) =>
        Change(frame, static kind => kind == FrameKind.Quarantined, FrameKind.Buffer);

    /// <inheritdoc/>
    public FrameKind KindOf(PhysicalAddress address) =>
        TryIndex(address, out int index) ? (FrameKind)Volatile.Read(ref _kinds[index]) : FrameKind.Absent;

    private static bool IsAllocated(FrameKind kind) =>
        kind is not (FrameKind.Absent or FrameKind.Free or FrameKind.Quarantined);

    private void Change(PhysicalAddress frame, Func<FrameKind, bool> allowed, FrameKind to)
    {
        lock (_lock)
        {
            int index = Require(frame.AlignDown(MachineMap.PageLog2), 1);
            var kind = (FrameKind)_kinds[index];
            if (!allowed(kind))
            {
                throw new InvalidOperationException($"the frame at {frame} is {kind} and cannot become {to}");
            }
            SetKind(index, 1, to);
        }
    }

    private void SetKind(int index, int count, FrameKind kind)
    {
        byte before = _kinds[index];
        _kinds.AsSpan(index, count).Fill((byte)kind);
        int freed = Change(FrameKind.Free);
        int quarantined = Change(FrameKind.Quarantined);
        Volatile.Write(ref _quarantined, _quarantined + quarantined);
        Volatile.Write(ref _free, _free + freed);
        int perBlock = Math.Min(count, BlockFrames) * Math.Sign(freed);
        for (int block = index >> BlockLog2; block <= (index + count - 1) >> BlockLog2; block++)
        {
            _freeInBlock[block] = (ushort)(_freeInBlock[block] + perBlock);
        }

        int Change(FrameKind of) => (kind == of ? count : 0) - (before == (byte)of ? count : 0);
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
