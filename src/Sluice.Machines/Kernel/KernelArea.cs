namespace Sluice.Machines;

/// <summary>
/// The memory that a DMA attack aims at: kernel code, interrupt table, system-call table. It is in use, so damage is
/// noticed by what stops working, and it is checked against what the kernel wrote, so damage is named to the byte. Safe
/// from any thread.
/// </summary>
/// <remarks>
/// <code>
/// interrupt table     256 entries of 16 bytes: handler id, then its check value
/// system-call table   512 entries of 8 bytes: address of the routine's code
/// code                seeded bytes; routine n begins at 64 × n with a word that names it
/// </code>
/// </remarks>
public sealed class KernelArea
{
    private const int PageSize = (int)MachineMap.PageSize;
    private const int CodePages = 4;
    private const int RoutineSizeLog2 = 6;
    private const int VectorSize = 16;
    private readonly Lock _lock = new();
    private readonly PhysicalMemory _memory;
    private readonly Page[] _pages;
    private readonly ulong _key;
    private long _rejected;

    internal KernelArea(PhysicalMemory memory, IFrameAllocator frames, ulong seed)
    {
        _memory = memory;
        _key = SplitMix.Mix(seed ^ 0x4B45_524E_454C);
        _pages = new Page[CodePages + 2];
        for (int i = 0; i < _pages.Length; i++)
        {
            if (!frames.TryAllocate(FrameKind.Kernel, MachineMap.PageLog2, out PhysicalAddress page))
            {
                throw new MachineException("no memory left for the kernel area");
            }
            string area = i < CodePages ? "code" : i == CodePages ? "interrupt table" : "system-call table";
            _pages[i] = new(page, area, new byte[PageSize]);
        }
        SplitMix random = new(_key);
        for (int i = 0; i < CodePages; i++)
        {
            for (int at = 0; at < PageSize; at += sizeof(ulong)) { Store(i, at, random.Next()); }
        }
        foreach (KernelCall call in Enum.GetValues<KernelCall>())
        {
            Store(0, Routine(call), Name(call));
            Store(CodePages + 1, (int)call * sizeof(ulong), _pages[0].Address.Value + (ulong)Routine(call));
        }
    }

    /// <summary>The pages of kernel code.</summary>
    public IReadOnlyList<PhysicalAddress> Code => [.. _pages.Take(CodePages).Select(static p => p.Address)];

    /// <summary>The page that interrupts are dispatched through.</summary>
    public PhysicalAddress InterruptTable => _pages[CodePages].Address;

    /// <summary>The page that <see cref="Call"/> goes through.</summary>
    public PhysicalAddress SystemCallTable => _pages[CodePages + 1].Address;

    /// <summary>
    /// Interrupts that were not dispatched and calls that failed because the table or code they went through was
    /// damaged.
    /// </summary>
    public long Rejected => Volatile.Read(ref _rejected);

    /// <summary>Compares every byte with what the kernel wrote.</summary>
    /// <returns>One entry per damaged page; empty when all is well.</returns>
    public IReadOnlyList<KernelDamage> Check()
    {
        List<KernelDamage> damage = [];
        byte[] now = new byte[PageSize];
        lock (_lock)
        {
            foreach (Page page in _pages)
            {
                _memory.TryRead(page.Address, now);
                int first = now.AsSpan().CommonPrefixLength(page.Expected);
                if (first == PageSize) { continue; }
                int changed = 0;
                for (int i = first; i < PageSize; i++) { changed += now[i] == page.Expected[i] ? 0 : 1; }
                damage.Add(new(page.Address, page.Area, first, changed));
            }
        }
        return damage;
    }

    /// <summary>Puts the bytes back, so that a demonstration can go on after the harm was shown.</summary>
    public void Repair()
    {
        lock (_lock)
        {
            foreach (Page page in _pages) { _memory.TryWrite(page.Address, page.Expected); }
        }
    }

    /// <summary>
    /// Goes through the system-call table to a routine's code; false, and counted, when either is damaged.
    /// </summary>
    public bool Call(KernelCall call)
    {
        ulong entry = SystemCallTable.Value + (ulong)call * sizeof(ulong);
        bool intact = _memory.TryRead64(new(entry), out ulong target)
            && target == _pages[0].Address.Value + (ulong)Routine(call)
            && _memory.TryRead64(new(target), out ulong name)
            && name == Name(call);
        if (!intact) { Interlocked.Increment(ref _rejected); }
        return intact;
    }

    /// <summary>Points a vector at a handler; 0 takes it away.</summary>
    internal void SetVector(byte vector, uint handler)
    {
        lock (_lock)
        {
            Store(CodePages, vector * VectorSize, handler);
            Store(CodePages, vector * VectorSize + sizeof(ulong), handler == 0 ? 0 : Check(vector, handler));
        }
    }

    /// <summary>
    /// Reads a vector's handler from the table; false, and counted, when the entry is not one that the kernel wrote.
    /// </summary>
    internal bool TryGetVector(byte vector, out uint handler)
    {
        PhysicalAddress entry = InterruptTable + (ulong)vector * VectorSize;
        bool read = _memory.TryRead64(entry, out ulong id) & _memory.TryRead64(entry + sizeof(ulong), out ulong check);
        handler = (uint)id;
        if (read && id <= uint.MaxValue && check == (id == 0 ? 0 : Check(vector, handler))) { return true; }
        Interlocked.Increment(ref _rejected);
        return false;
    }

    private static int Routine(KernelCall call) => (int)call << RoutineSizeLog2;

    private ulong Name(KernelCall call) => SplitMix.Mix(_key + (ulong)call + 1);

    private ulong Check(byte vector, uint handler) => SplitMix.Mix(_key ^ (((ulong)handler << 8) | vector)) | 1;

    private void Store(int page, int offset, ulong value)
    {
        System.Buffers.Binary.BinaryPrimitives.WriteUInt64LittleEndian(_pages[page].Expected.AsSpan(offset), value);
        _memory.TryWrite64(_pages[page].Address + (ulong)offset, value);
    }

    private readonly record struct Page(PhysicalAddress Address, string Area, byte[] Expected);
}
