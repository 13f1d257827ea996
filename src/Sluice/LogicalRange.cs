namespace Sluice;

/// <summary>
/// An inclusive range of logical addresses, so that the last page of a 64-bit space can be expressed. Never empty.
/// </summary>
/// <param name="First">The first byte.</param>
/// <param name="Last">The last byte, not below <paramref name="First"/>.</param>
public readonly record struct LogicalRange(LogicalAddress First, LogicalAddress Last)
{
    /// <summary>The range of <paramref name="length"/> bytes from <paramref name="first"/>.</summary>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="length"/> is zero or the range passes
    /// 2^64.</exception>
    public static LogicalRange FromLength(LogicalAddress first, ulong length)
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length - 1, ulong.MaxValue - first.Value, nameof(length));
        return new(first, first + (length - 1));
    }

    /// <summary>The number of bytes minus one: the only form that fits 64 bits for every range.</summary>
    public ulong LengthMinusOne => Last - First;

    /// <summary>The number of bytes; 0 stands for the whole 64-bit space.</summary>
    public ulong Length => unchecked(Last - First + 1);

    /// <summary>Whether <paramref name="address"/> lies inside.</summary>
    public bool Contains(LogicalAddress address) => address - First <= Last - First;

    /// <summary>Whether all of <paramref name="other"/> lies inside.</summary>
    public bool Contains(LogicalRange other) => First <= other.First && other.Last <= Last;

    /// <summary>Whether any byte is in both ranges.</summary>
    public bool Overlaps(LogicalRange other) => First <= other.Last && other.First <= Last;

    /// <summary>As <c>[0x1000, 0x1FFF]</c>.</summary>
    public override string ToString() => $"[{First}, {Last}]";
}
