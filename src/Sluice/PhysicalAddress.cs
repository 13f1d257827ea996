namespace Sluice;

/// <summary>What memory is indexed by: a byte address on the memory side of every remapping unit.</summary>
/// <param name="Value">The address in bytes. Any 64-bit value; formats narrow it to what their hardware can
/// carry.</param>
public readonly record struct PhysicalAddress(ulong Value) : IComparable<PhysicalAddress>
{
    /// <summary>Address zero.</summary>
    public static PhysicalAddress Zero => default;

    /// <summary>The address with its low <paramref name="sizeLog2"/> bits cleared.</summary>
    public PhysicalAddress AlignDown(int sizeLog2) => new(Value >> sizeLog2 << sizeLog2);

    /// <summary>The low <paramref name="sizeLog2"/> bits: the distance from <see cref="AlignDown"/>.</summary>
    public ulong OffsetIn(int sizeLog2) => Value & ((1UL << sizeLog2) - 1);

    /// <summary>Whether the low <paramref name="sizeLog2"/> bits are zero.</summary>
    public bool IsAligned(int sizeLog2) => OffsetIn(sizeLog2) == 0;

    /// <inheritdoc/>
    public int CompareTo(PhysicalAddress other) => Value.CompareTo(other.Value);

    /// <summary>The address <paramref name="bytes"/> above; wraps at 2^64 as hardware does.</summary>
    public static PhysicalAddress operator +(PhysicalAddress address, ulong bytes) =>
        new(unchecked(address.Value + bytes));

    /// <summary>The address <paramref name="bytes"/> below; wraps at zero as hardware does.</summary>
    public static PhysicalAddress operator -(PhysicalAddress address, ulong bytes) =>
        new(unchecked(address.Value - bytes));

    /// <summary>The distance in bytes from <paramref name="first"/> up to <paramref name="second"/>.</summary>
    public static ulong operator -(PhysicalAddress second, PhysicalAddress first) =>
        unchecked(second.Value - first.Value);

    /// <summary>Orders by value.</summary>
    public static bool operator <(PhysicalAddress a, PhysicalAddress b) => a.Value < b.Value;

    /// <summary>Orders by value.</summary>
    public static bool operator >(PhysicalAddress a, PhysicalAddress b) => a.Value > b.Value;

    /// <summary>Orders by value.</summary>
    public static bool operator <=(PhysicalAddress a, PhysicalAddress b) => a.Value <= b.Value;

    /// <summary>Orders by value.</summary>
    public static bool operator >=(PhysicalAddress a, PhysicalAddress b) => a.Value >= b.Value;

    /// <summary>Hexadecimal with 0x, as <c>0x8001200</c>.</summary>
    public override string ToString() => $"0x{Value:X}";
}
