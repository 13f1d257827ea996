namespace Sluice.Iommu;

/// <summary>
/// Memory of a kind that the host made, as algorithms take it: every access is a call through the interface.
/// </summary>
internal readonly struct AnyMemory(IPhysicalMemory memory) : IPhysicalMemory
{
    public bool TryRead64(PhysicalAddress address, out ulong value) => memory.TryRead64(address, out value);

    public bool TryWrite64(PhysicalAddress address, ulong value) => memory.TryWrite64(address, value);

    public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed) =>
        memory.TryCompareExchange64(address, comparand, value, out observed);

    public bool TryRead32(PhysicalAddress address, out uint value) => memory.TryRead32(address, out value);

    public bool TryWrite32(PhysicalAddress address, uint value) => memory.TryWrite32(address, value);

    public bool TryRead(PhysicalAddress address, Span<byte> destination) => memory.TryRead(address, destination);

    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => memory.TryWrite(address, source);

    public bool TryRead128(PhysicalAddress address, out ulong low, out ulong high) =>
        memory.TryRead128(address, out low, out high);

    public bool TryWrite128(PhysicalAddress address, ulong low, ulong high) => memory.TryWrite128(address, low, high);
}
