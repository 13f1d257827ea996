namespace Sluice;

/// <summary>
/// What a device puts on the bus (WDM's word; Linux says IOVA): a byte address on the device side of a remapping unit.
/// </summary>
/// <param name="Value">The address in bytes. Without a remapping unit it equals the physical address; behind one it
/// means something only together with a domain.</param>
public readonly record struct LogicalAddress(ulong Value) : IComparable<LogicalAddress>
{
    /// <summary>Address zero.</summary>
    public static LogicalAddress Zero => default;

    /// <summary>The address with its low <paramref name="sizeLog2"/> bits cleared.</summary>
    public LogicalAddress AlignDown(int sizeLog2) => new(Value >> sizeLog2 << sizeLog2);

    /// <summary>The low <paramref name="sizeLog2"/> bits: the distance from <see cref="AlignDown"/>.</summary>
    public ulong OffsetIn(int sizeLog2) => Value & ((1UL << sizeLog2) - 1);

    /// <summary>Whether the low <paramref name="sizeLog2"/> bits are zero.</summary>
    public bool IsAligned(int sizeLog2) => OffsetIn(sizeLog2) == 0;

    /// <inheritdoc/>
    public int CompareTo(LogicalAddress other) => Value.CompareTo(other.Value);

    /// <summary>The address <paramref name="bytes"/> above; wraps at 2^64 as hardware does.</summary>
    public static LogicalAddress operator +(LogicalAddress address, ulong bytes) =>
        new(unchecked(address.Value + bytes));

    /// <summary>The address <paramref name="bytes"/> below; wraps at zero as hardware does.</summary>
    public static LogicalAddress operator -(LogicalAddress address, ulong bytes) =>
        new(unchecked(address.Value - bytes));

    /// <summary>The distance in bytes from <paramref name="first"/> up to <paramref name="second"/>.</summary>
    public static ulong operator -(LogicalAddress second, LogicalAddress first) =>
        unchecked(second.Value - first.Value);

    /// <summary>Orders by value.</summary>
    public static bool operator <(LogicalAddress a, LogicalAddress b) => a.Value < b.Value;

    /// <summary>Orders by value.</summary>
    public static bool operator >(LogicalAddress a, LogicalAddress b) => a.Value > b.Value;

    /// <summary>Orders by value.</summary>
    public static bool operator <=(LogicalAddress a, LogicalAddress b) => a.Value <= b.Value;

    /// <summary>Orders by value.</summary>
    public static bool operator >=(LogicalAddress a, LogicalAddress b) => a.Value >= b.Value;

    /// <summary>Hexadecimal with 0x, as <c>0xFFFE3000</c>.</summary>
    public override string ToString() => $"0x{Value:X}";
}
