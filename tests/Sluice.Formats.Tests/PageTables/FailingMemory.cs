namespace Sluice.Formats.Tests.PageTables;

/// <summary>A memory that answers so many times, and no more. Copies share the count.</summary>
public readonly struct FailingMemory(PhysicalMemory memory, int answers) : IPhysicalMemory
{
    private readonly int[] _left = [answers];
    private readonly bool[] _unread = new bool[1];

    /// <summary>Whether that was a read of an entry.</summary>
    public bool HasFailedToRead => _unread[0];

    /// <summary>Whether it was asked once too often.</summary>
    public bool HasFailed => _left[0] < 0;

    public bool TryRead64(PhysicalAddress address, out ulong value)
    {
        value = 0;
        bool answers = Answers();
        _unread[0] |= !answers;
        return answers && memory.TryRead64(address, out value);
    }

    public bool TryRead32(PhysicalAddress address, out uint value)
    {
        value = 0;
        return Answers() && memory.TryRead32(address, out value);
    }

    public bool TryRead(PhysicalAddress address, Span<byte> destination) =>
        Answers() && memory.TryRead(address, destination);

    public bool TryWrite64(PhysicalAddress address, ulong value) => Answers() && memory.TryWrite64(address, value);

    public bool TryWrite32(PhysicalAddress address, uint value) => Answers() && memory.TryWrite32(address, value);

    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) =>
        Answers() && memory.TryWrite(address, source);

    public bool TryCompareExchange64(PhysicalAddress address, ulong comparand, ulong value, out ulong observed)
    {
        observed = 0;
        return Answers() && memory.TryCompareExchange64(address, comparand, value, out observed);
    }

    private bool Answers() => --_left[0] >= 0;
}
