namespace Sluice.Remapping.Tests;

/// <summary>Memory with a test between two stores: <see cref="AfterStore"/> runs after each one.</summary>
internal sealed class TestMemory(PhysicalMemory memory) : IPhysicalMemory
{
    public Action? AfterStore { get; set; }

    public bool TryRead64(PhysicalAddress address, out ulong value) => memory.TryRead64(address, out value);

    public bool TryWrite64(PhysicalAddress address, ulong value)
    {
        bool stored = memory.TryWrite64(address, value);
        AfterStore?.Invoke();
        return stored;
    }

    public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed) =>
        memory.TryCompareExchange64(address, comparand, value, out observed);

    public bool TryRead32(PhysicalAddress address, out uint value) => memory.TryRead32(address, out value);

    public bool TryWrite32(PhysicalAddress address, uint value) => memory.TryWrite32(address, value);

    public bool TryRead(PhysicalAddress address, Span<byte> destination) => memory.TryRead(address, destination);

    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => memory.TryWrite(address, source);
}
