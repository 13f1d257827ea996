namespace Sluice.Formats.PageTables;

/// <summary>
/// Tables that <c>Unmap</c> took out of the tree. Hardware may still hold pointers to them: free them only after the
/// invalidation that follows the unmap has completed. One thread at a time; start from <c>default</c>.
/// </summary>
/// <remarks>
/// The list costs no memory: each table's first slot holds the address of the next. A gathered table is otherwise
/// empty, and a page-aligned address is an absent entry in every format, so hardware that still walks one finds
/// nothing.
/// </remarks>
public struct TableGather
{
    private PhysicalAddress _head;

    /// <summary>Tables gathered and not yet freed.</summary>
    public int Count { get; private set; }

    internal int FrameLog2 { get; private set; }

    internal void Add<TMemory>(TMemory memory, PhysicalAddress table, int frameLog2)
        where TMemory : struct, IPhysicalMemory
    {
        memory.TryWrite64(table, Count == 0 ? 0 : _head.Value);
        _head = table;
        FrameLog2 = frameLog2;
        Count++;
    }

    /// <summary>Gives all tables back. The invalidation must have completed.</summary>
    public void Free<TMemory>(TMemory memory, IFrameAllocator frames)
        where TMemory : struct, IPhysicalMemory
    {
        for (; Count > 0; Count--)
        {
            PhysicalAddress table = _head;
            memory.TryRead64(table, out ulong next);
            _head = new(next);
            frames.Free(table, FrameLog2);
        }
    }
}
