using Sluice.Machines.Qtest;

namespace Sluice.Machines.Qemu;

/// <summary>Registers of QEMU's devices: each access is one qtest command of exactly its width.</summary>
internal sealed class QemuRegisterWindow(QtestClient client, PhysicalAddress first, uint length, Action onWrite)
    : RegisterWindow
{
    public override uint Length => length;

    public override byte Read8(uint offset) => client.Read8(At(offset, sizeof(byte)));

    public override ushort Read16(uint offset) => client.Read16(At(offset, sizeof(ushort)));

    public override uint Read32(uint offset) => client.Read32(At(offset, sizeof(uint)));

    public override ulong Read64(uint offset) => client.Read64(At(offset, sizeof(ulong)));

    public override void Write8(uint offset, byte value)
    {
        client.Write8(At(offset, sizeof(byte)), value);
        onWrite();
    }

    public override void Write16(uint offset, ushort value)
    {
        client.Write16(At(offset, sizeof(ushort)), value);
        onWrite();
    }

    public override void Write32(uint offset, uint value)
    {
        client.Write32(At(offset, sizeof(uint)), value);
        onWrite();
    }

    public override void Write64(uint offset, ulong value)
    {
        client.Write64(At(offset, sizeof(ulong)), value);
        onWrite();
    }

    private PhysicalAddress At(uint offset, uint size)
    {
        Check(offset, size);
        return first + offset;
    }
}

/// <summary>QEMU's port space.</summary>
internal sealed class QemuPorts(QtestClient client) : IPortIo
{
    public Lock TwoStepAccess { get; } = new();

    public byte In8(ushort port) => client.In8(port);

    public ushort In16(ushort port) => client.In16(port);

    public uint In32(ushort port) => client.In32(port);

    public void Out8(ushort port, byte value) => client.Out8(port, value);

    public void Out16(ushort port, ushort value) => client.Out16(port, value);

    public void Out32(ushort port, uint value) => client.Out32(port, value);
}
