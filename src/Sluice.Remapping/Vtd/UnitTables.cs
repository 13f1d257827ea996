namespace Sluice.Remapping.Vtd;

/// <summary>The memory of one unit: its root table, its invalidation queue, and the word that the queue reports to.</summary>
internal sealed class UnitTables
{
    private readonly IFrameAllocator _frames;
    private readonly List<(PhysicalAddress First, int SizeLog2)> _taken = [];

    /// <summary>Takes the memory, zeroed.</summary>
    /// <param name="frames">Where from.</param>
    /// <param name="queuePagesLog2">Pages of the queue, as a power of two.</param>
    /// <param name="unit">The unit.</param>
    /// <exception cref="RemappingException">No memory is left. Nothing is kept.</exception>
    public UnitTables(IFrameAllocator frames, int queuePagesLog2, VtdUnitDescription unit)
    {
        (_frames, RingLog2) = (frames, 12 + queuePagesLog2);
        (Root, Ring, Status) = (Take(12, unit), Take(RingLog2, unit), Take(12, unit));
    }

    /// <summary>The root table.</summary>
    public PhysicalAddress Root { get; }

    /// <summary>The invalidation queue.</summary>
    public PhysicalAddress Ring { get; }

    /// <summary>Its bytes, as a power of two.</summary>
    public int RingLog2 { get; }

    /// <summary>Where wait descriptors store their numbers.</summary>
    public PhysicalAddress Status { get; }

    /// <summary>Gives everything back, while the unit does not know it.</summary>
    public void Free()
    {
        foreach ((PhysicalAddress first, int sizeLog2) in _taken) { _frames.Free(first, sizeLog2); }
        _taken.Clear();
    }

    private PhysicalAddress Take(int sizeLog2, VtdUnitDescription unit)
    {
        if (_frames.TryAllocate(FrameKind.UnitTable, sizeLog2, out PhysicalAddress first))
        {
            _taken.Add((first, sizeLog2));
            return first;
        }
        Free();
        throw new RemappingException($"{unit}: no memory for its tables");
    }
}
