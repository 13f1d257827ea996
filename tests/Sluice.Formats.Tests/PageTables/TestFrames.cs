using System.Collections.Concurrent;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Frames for tables, scattered over a memory, counted, and poisoned when freed so that a use after free shows. Safe
/// from any thread.
/// </summary>
public sealed class TestFrames : IFrameAllocator
{
    private readonly PhysicalMemory _memory;
    private readonly ConcurrentDictionary<ulong, int> _live = new();
    private readonly Lock _lock = new();
    private readonly Dictionary<int, Stack<ulong>> _free = [];
    private readonly ulong _end;
    private ulong _next;

    public TestFrames(PhysicalMemory memory, ulong first, ulong end) => (_memory, _next, _end) = (memory, first, end);

    /// <summary>How many more allocations succeed.</summary>
    public int Budget { get; set; } = int.MaxValue;

    public int Live => _live.Count;

    /// <summary>First bytes and sizes.</summary>
    public IEnumerable<KeyValuePair<ulong, int>> Allocated => _live;

    public int QuarantinedFrames => 0;

    public bool TryAllocate(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last = null)
    {
        Assert.Equal(FrameKind.UnitTable, kind);
        Assert.InRange(sizeLog2, 12, 22);
        lock (_lock)
        {
            first = default;
            if (Budget <= 0) { return false; }
            ulong size = 1UL << sizeLog2;
            if (_free.TryGetValue(sizeLog2, out Stack<ulong>? stack) && stack.Count > 0) { first = new(stack.Pop()); }
            else
            {
                // Leave gaps, so that tables are never neighbours by luck.
                ulong at = (_next + size - 1) & ~(size - 1);
                if (at + size > _end) { return false; }
                (first, _next) = (new(at), at + size + 0x1000);
            }
            Assert.True(last is null || first + (size - 1) <= last);
            Budget--;
        }
        Assert.True(_memory.TryWrite(first, new byte[1 << sizeLog2]));
        Assert.True(_live.TryAdd(first.Value, sizeLog2));
        return true;
    }

    public void Free(PhysicalAddress first, int sizeLog2)
    {
        Assert.True(_live.TryRemove(first.Value, out int size)
            && size == sizeLog2, $"{first} is not an allocated frame");
        byte[] poison = new byte[1 << sizeLog2];
        Array.Fill(poison, (byte)0xDB);
        Assert.True(_memory.TryWrite(first, poison));
        lock (_lock)
        {
            if (!_free.TryGetValue(sizeLog2, out Stack<ulong>? stack)) { _free[sizeLog2] = stack = new(); }
            stack.Push(first.Value);
        }
    }

    public void Quarantine(PhysicalAddress frame) => throw new NotSupportedException();

    public void Release(PhysicalAddress frame) => throw new NotSupportedException();

    public void Reclaim(PhysicalAddress frame) => throw new NotSupportedException();

    public FrameKind KindOf(PhysicalAddress address) => FrameKind.UnitTable;
}
