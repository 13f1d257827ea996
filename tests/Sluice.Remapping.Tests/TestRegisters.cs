namespace Sluice.Remapping.Tests;

/// <summary>
/// A register window with a test between it and the unit: every write can be watched, changed or swallowed.
/// </summary>
internal sealed class TestRegisters(RegisterWindow unit) : RegisterWindow
{
    /// <summary>Called before each write; false swallows it.</summary>
    public Func<uint, ulong, bool>? OnWrite { get; set; }

    /// <summary>Called before each read; a value answers instead of the unit.</summary>
    public Func<uint, ulong?>? OnRead { get; set; }

    public override uint Length => unit.Length;

    public override byte Read8(uint offset) => unit.Read8(offset);

    public override ushort Read16(uint offset) => unit.Read16(offset);

    public override uint Read32(uint offset) => (uint?)OnRead?.Invoke(offset) ?? unit.Read32(offset);

    public override ulong Read64(uint offset) => OnRead?.Invoke(offset) ?? unit.Read64(offset);

    public override void Write8(uint offset, byte value) => unit.Write8(offset, value);

    public override void Write16(uint offset, ushort value) => unit.Write16(offset, value);

    public override void Write32(uint offset, uint value)
    {
        if (OnWrite?.Invoke(offset, value) ?? true) { unit.Write32(offset, value); }
    }

    public override void Write64(uint offset, ulong value)
    {
        if (OnWrite?.Invoke(offset, value) ?? true) { unit.Write64(offset, value); }
    }
}
