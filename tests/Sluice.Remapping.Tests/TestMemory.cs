namespace Sluice.Remapping.Tests;

/// <summary>Memory with a test between two stores: <see cref="AfterStore"/> runs after each one.</summary>
internal sealed class TestMemory(PhysicalMemory memory) : IPhysicalMemory
{
    public Action? AfterStore { get; set; }

    /// <summary>
    /// How it stores 16 bytes: at once, not at all, or (a mistake that tests must notice) in two steps.
    /// </summary>
    public WideStores WideStores { get; init; }

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

    public bool TryWrite128(PhysicalAddress address, ulong low, ulong high)
    {
        if (WideStores == WideStores.Torn) { return TryWrite64(address + 8, high) && TryWrite64(address, low); }
        bool stored = WideStores == WideStores.Whole && memory.TryWrite128(address, low, high);
        if (stored) { AfterStore?.Invoke(); }
        return stored;
    }
}

public enum WideStores
{
    Whole,
    None,
    Torn,
}
