namespace Sluice.Remapping.Tests;

/// <summary>
/// A register window with a test between it and the unit: every write can be watched, changed or swallowed.
/// </summary>
/// <param name="unit">The unit's registers.</param>
/// <param name="length">How many bytes of them can be reached; null for all.</param>
internal sealed class TestRegisters(RegisterWindow unit, uint? length = null) : RegisterWindow
{
    /// <summary>Called before each write; false swallows it.</summary>
    public Func<uint, ulong, bool>? OnWrite { get; set; }

    /// <summary>Called before each read; a value answers instead of the unit.</summary>
    public Func<uint, ulong?>? OnRead { get; set; }

    public override uint Length => length ?? unit.Length;

    public override byte Read8(uint offset) => unit.Read8(offset);

    public override ushort Read16(uint offset) => unit.Read16(offset);

    public override uint Read32(uint offset) => (uint?)OnRead?.Invoke(offset) ?? unit.Read32(Inside(offset));

    public override ulong Read64(uint offset) => OnRead?.Invoke(offset) ?? unit.Read64(Inside(offset));

    public override void Write8(uint offset, byte value) => unit.Write8(offset, value);

    public override void Write16(uint offset, ushort value) => unit.Write16(offset, value);

    public override void Write32(uint offset, uint value)
    {
        if (OnWrite?.Invoke(offset, value) ?? true) { unit.Write32(Inside(offset), value); }
    }

    public override void Write64(uint offset, ulong value)
    {
        if (OnWrite?.Invoke(offset, value) ?? true) { unit.Write64(Inside(offset), value); }
    }

    private uint Inside(uint offset) => offset < Length
        ? offset
        : throw new ArgumentOutOfRangeException(nameof(offset), $"0x{offset:X} of a window of 0x{Length:X} bytes");
}
