namespace Sluice.Machines;

/// <summary>
/// The host bridge's two ways into configuration space, ports 0xCF8/0xCFC and ECAM, and the port that resets the
/// system, 0xCF9. One segment; absent functions read all ones.
/// </summary>
/// <remarks>
/// PCI Local Bus 3.0, 3.2.2.3 (configuration mechanism 1); PCI Express Base 7.2.2 (ECAM); ICH9, 13.7.5 (reset control).
/// As QEMU's: the address register keeps all bits, its low two are ORed into the lane of 0xCFC, narrow reads of it give
/// its low bits and narrow writes are lost; an access that is not aligned reads zero, and is lost.
/// </remarks>
internal sealed class PciHost : IPortIo
{
    private const ushort AddressPort = 0xCF8;
    private const ushort ResetPort = 0xCF9;
    private const ushort DataPort = 0xCFC;
    private const uint EnableBit = 1u << 31;
    private const byte ResetSystem = 1 << 2;
    private const byte ResetKept = 0b1010;
    private readonly PciDevice?[]?[] _buses = new PciDevice?[256][];
    private PciDevice[] _functions = [];
    private EcamPlace? _ecam;
    private uint _address;
    private byte _resetControl;

    public PciHost() => _buses[0] = new PciDevice?[256];

    public Lock TwoStepAccess { get; } = new();

    /// <summary>Runs on the thread that asks for a system reset by port.</summary>
    public Action? ResetRequested { get; set; }

    /// <summary>Where ECAM answers now; null while it is disabled.</summary>
    public PhysicalRange? Ecam
    {
        get => Volatile.Read(ref _ecam)?.Range;
        set => Volatile.Write(ref _ecam, value is { } range ? new(range) : null);
    }

    /// <summary>The functions plugged in, in order of bus, device and function number.</summary>
    public PciDevice[] Functions => Volatile.Read(ref _functions);

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
        Volatile.Write(ref _functions, [.. _functions.Append(device).OrderBy(static f => f.Address.Requester.Value)]);
        if (id.Function == 0) { return; }
        // Software looks at functions 1 to 7 only where function 0 says that there are some.
        PciDevice? first = bus[id.DeviceFunction & 0xF8];
        if (first is null) { return; }
        uint header = first.Config.Read(PciConfig.HeaderType, 1);
        first.Config.Set8(PciConfig.HeaderType, (byte)(header | PciConfig.MultiFunction));
    }

    public uint Read(RequesterId id, int offset, int size) =>
        this[id] is { } device ? device.Config.Read(offset, size) : uint.MaxValue;

    public void Write(RequesterId id, int offset, int size, uint value) => this[id]?.Config.Write(offset, size, value);

    /// <summary>
    /// Which function and register ECAM shows at an address: bits 27:20 bus, 19:12 device and function, 11:0 offset.
    /// </summary>
    public bool DecodesEcam(PhysicalAddress address, out RequesterId id, out int offset)
    {
        ulong inside = Ecam is { } range && range.Contains(address) ? address - range.First : ulong.MaxValue;
        (id, offset) = (new((ushort)(inside >> 12)), (int)(inside & 0xFFF));
        return inside != ulong.MaxValue;
    }

    public byte In8(ushort port) => (byte)In(port, 1);

    public ushort In16(ushort port) => (ushort)In(port, 2);

    public uint In32(ushort port) => In(port, 4);

    public void Out8(ushort port, byte value) => Out(port, 1, value);

    public void Out16(ushort port, ushort value) => Out(port, 2, value);

    public void Out32(ushort port, uint value) => Out(port, 4, value);

    private uint In(ushort port, int size)
    {
        if (port == ResetPort && size == 1) { return Volatile.Read(ref _resetControl); }
        if ((port & (size - 1)) != 0) { return 0; }
        return (port & ~3) switch
        {
            AddressPort => Volatile.Read(ref _address),
            DataPort when Select(port, ref size, out RequesterId id, out int offset) => Read(id, offset, size),
            _ => uint.MaxValue,
        };
    }

    private void Out(ushort port, int size, uint value)
    {
        if (port == ResetPort)
        {
            WriteResetControl((byte)value);
        }
        else if (port == AddressPort && size == 4)
        {
            Volatile.Write(ref _address, value);
        }
        else if ((port & (size - 1)) == 0 && (port & ~3) == DataPort
            && Select(port, ref size, out RequesterId id, out int offset))
        {
            Write(id, offset, size, value);
        }
    }

    private void WriteResetControl(byte value)
    {
        bool resets = (value & ResetSystem) != 0;
        Volatile.Write(ref _resetControl, resets ? (byte)0 : (byte)(value & ResetKept));
        if (resets) { ResetRequested?.Invoke(); }
    }

    /// <summary>What passes the end of the 256 bytes is cut off.</summary>
    private bool Select(ushort port, ref int size, out RequesterId id, out int offset)
    {
        uint address = Volatile.Read(ref _address);
        id = new((ushort)(address >> 8));
        offset = (int)(address & 0xFF) | (port & 3);
        size = Math.Min(size, PciConfig.ConventionalSize - offset);
        return (address & EnableBit) != 0;
    }

    private sealed record EcamPlace(PhysicalRange Range);
}
