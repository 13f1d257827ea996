namespace Sluice.Remapping.Tests;

/// <summary>The configuration ports of a machine that has nothing but bridges.</summary>
internal sealed class TestPorts : IPortIo
{
    private readonly Dictionary<uint, byte> _bytes = [];
    private uint _address;

    public Lock TwoStepAccess { get; } = new();

    /// <summary>
    /// What bytes there are, by bus (23:16), device and function (15:8) and offset, instead of bridges.
    /// </summary>
    public Func<uint, byte>? OnRead { get; set; }

    /// <summary>A bridge; of the given kind of PCI Express port (4: root port), or conventional without one.</summary>
    public void AddBridge(int bus, int device, int function, byte secondary, byte subordinate, int? portType = 4)
    {
        uint id = (uint)RequesterId.From(bus, device, function).Value << 8;
        _bytes[id | 0x0E] = 0x81;
        _bytes[id | 0x19] = secondary;
        _bytes[id | 0x1A] = subordinate;
        _bytes[id | 0x06] = 0x10;
        _bytes[id | 0x34] = 0x40;
        // A power management capability comes first.
        (_bytes[id | 0x40], _bytes[id | 0x41]) = (0x01, portType is null ? (byte)0 : (byte)0x50);
        (_bytes[id | 0x50], _bytes[id | 0x51]) = (0x10, 0);
        _bytes[id | 0x52] = (byte)(2 | ((portType ?? 0) << 4));
    }

    public byte In8(ushort port)
    {
        Assert.True(TwoStepAccess.IsHeldByCurrentThread, "half a configuration cycle");
        uint at = (_address & 0x7FFF_FFFC) + (uint)(port - 0xCFC);
        return OnRead?.Invoke(at) ?? _bytes.GetValueOrDefault(at, (byte)0xFF);
    }

    public ushort In16(ushort port) => throw new NotSupportedException();

    public uint In32(ushort port) => throw new NotSupportedException();

    public void Out8(ushort port, byte value) => throw new NotSupportedException();

    public void Out16(ushort port, ushort value) => throw new NotSupportedException();

    public void Out32(ushort port, uint value)
    {
        Assert.True(TwoStepAccess.IsHeldByCurrentThread, "half a configuration cycle");
        Assert.Equal(0xCF8, port);
        Assert.NotEqual(0u, value & 0x8000_0000);
        _address = value;
    }
}
