namespace Sluice.Machines;

/// <summary>
/// The host bridge's two ways into configuration space: ports 0xCF8/0xCFC, and ECAM. One segment; absent functions read
/// all ones.
/// </summary>
/// <remarks>PCI Local Bus 3.0, 3.2.2.3 (configuration mechanism 1); PCI Express Base 7.2.2 (ECAM).</remarks>
internal sealed class PciHost : IPortIo
{
    private const ushort AddressPort = 0xCF8;
    private const ushort DataPort = 0xCFC;
    private const uint EnableBit = 1u << 31;
    private readonly PciDevice?[]?[] _buses = new PciDevice?[256][];
    private uint _address;

    public PciHost() => _buses[0] = new PciDevice?[256];

    public Lock TwoStepAccess { get; } = new();

    /// <summary>The functions plugged in, in order of bus, device and function number.</summary>
    public IEnumerable<PciDevice> Functions => _buses.SelectMany(static bus => bus ?? []).OfType<PciDevice>();

    public PciDevice? this[RequesterId id] =>
        Volatile.Read(ref _buses[id.Bus]) is { } bus ? Volatile.Read(ref bus[id.DeviceFunction]) : null;

    /// <summary>The bridge that leads to a bus; null for the root bus and where there is none.</summary>
    public PciBridge? BridgeTo(byte bus) =>
        Functions.OfType<PciBridge>().FirstOrDefault(one => one.SecondaryBus == bus);

    public void Add(PciDevice device)
    {
        RequesterId id = device.Address.Requester;
        PciDevice?[] bus = _buses[id.Bus] ?? new PciDevice?[256];
        Volatile.Write(ref bus[id.DeviceFunction], device);
        Volatile.Write(ref _buses[id.Bus], bus);
        if (id.Function == 0) { return; }
        // Software looks at functions 1 to 7 only where function 0 says that there are some.
        PciDevice? first = bus[id.DeviceFunction & 0xF8];
        if (first is null) { return; }
        uint header = first.Config.Read(PciConfig.HeaderType, 1);
        first.Config.Set8(PciConfig.HeaderType, (byte)(header | PciConfig.MultiFunction));
    }

    public uint Read(RequesterId id, int offset, int size) =>
        this[id] is { } device ? device.Config.Read(offset, size) : size == 4 ? uint.MaxValue : (1u << (size * 8)) - 1;

    public void Write(RequesterId id, int offset, int size, uint value) => this[id]?.Config.Write(offset, size, value);

    public byte In8(ushort port) => (byte)In(port, 1);

    public ushort In16(ushort port) => (ushort)In(port, 2);

    public uint In32(ushort port) => In(port, 4);

    public void Out8(ushort port, byte value) => Out(port, 1, value);

    public void Out16(ushort port, ushort value) => Out(port, 2, value);

    public void Out32(ushort port, uint value) => Out(port, 4, value);

    private uint In(ushort port, int size)
    {
        // The address register answers 32-bit accesses only; narrower ones pass it by.
        if (port == AddressPort && size == 4) { return Volatile.Read(ref _address); }
        return Select(port, size, out RequesterId id, out int offset) ? Read(id, offset, size) : uint.MaxValue;
    }

    private void Out(ushort port, int size, uint value)
    {
        if (port == AddressPort && size == 4)
        {
            Volatile.Write(ref _address, value & 0x80FF_FFFC);
        }
        else if (Select(port, size, out RequesterId id, out int offset))
        {
            Write(id, offset, size, value);
        }
    }

    private bool Select(ushort port, int size, out RequesterId id, out int offset)
    {
        uint address = Volatile.Read(ref _address);
        int lane = port - DataPort;
        id = new((ushort)(address >> 8));
        offset = (int)(address & 0xFC) + lane;
        return (address & EnableBit) != 0 && lane >= 0 && lane + size <= 4;
    }
}
