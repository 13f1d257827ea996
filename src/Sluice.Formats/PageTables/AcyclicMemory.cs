namespace Sluice.Formats.PageTables;

/// <summary>
/// The memory of one walk that never finds a table twice: hardware would go round a loop until its levels end, a reader
/// calls it damage. Reading is all that a walk does.
/// </summary>
internal readonly struct AcyclicMemory<TMemory>(TMemory memory, PhysicalAddress root, int rootSizeLog2,
    int tableSizeLog2) : IPhysicalMemory
    where TMemory : struct, IPhysicalMemory
{
    private readonly List<PhysicalAddress> _tables = [];

    public bool TryRead64(PhysicalAddress address, out ulong value)
    {
        value = 0;
        return IsNew(address) && memory.TryRead64(address, out value);
    }

    public bool TryRead32(PhysicalAddress address, out uint value)
    {
        value = 0;
        return IsNew(address) && memory.TryRead32(address, out value);
    }

    public bool TryRead(PhysicalAddress address, Span<byte> destination) => memory.TryRead(address, destination);

    public bool TryWrite64(PhysicalAddress address, ulong value) => false;

    public bool TryWrite32(PhysicalAddress address, uint value) => false;

    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => false;

    public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed)
    {
        observed = 0;
        return false;
    }

    private bool IsNew(PhysicalAddress address)
    {
        PhysicalAddress table = _tables.Count == 0 || address - root < 1UL << rootSizeLog2
            ? root
            : address.AlignDown(tableSizeLog2);
        if (_tables.Contains(table)) { return false; }
        _tables.Add(table);
        return true;
    }
}
