namespace Sluice.Remapping.Tests;

/// <summary>The configuration ports of a machine that has nothing but bridges.</summary>
internal sealed class TestPorts : IPortIo
{
    private readonly Dictionary<uint, byte> _bytes = [];
    private uint _address;

    public void AddBridge(int bus, int device, int function, byte secondary, byte subordinate)
    {
        uint id = (uint)RequesterId.From(bus, device, function).Value << 8;
        _bytes[id | 0x0E] = 0x81;
        _bytes[id | 0x19] = secondary;
        _bytes[id | 0x1A] = subordinate;
    }

    public byte In8(ushort port) => _bytes.GetValueOrDefault(
        (_address & 0x7FFF_FFFC) + (uint)(port - 0xCFC), (byte)0xFF);

    public ushort In16(ushort port) => throw new NotSupportedException();

    public uint In32(ushort port) => throw new NotSupportedException();

    public void Out8(ushort port, byte value) => throw new NotSupportedException();

    public void Out16(ushort port, ushort value) => throw new NotSupportedException();

    public void Out32(ushort port, uint value)
    {
        Assert.Equal(0xCF8, port);
        Assert.NotEqual(0u, value & 0x8000_0000);
        _address = value;
    }
}
