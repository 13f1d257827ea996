namespace Sluice.Machines.Tests;

/// <summary>
/// A platform without firmware tables whose configuration space is a dictionary: what enumeration must also manage.
/// </summary>
internal sealed class PortsOnlyPlatform : IPlatform, IPortIo, IDisposable
{
    private readonly MemoryBanks _banks = new(new MemoryBank(new(0xF_0000), NativeBlock.Allocate(0x1000), 0, 0x1000));
    private readonly Dictionary<RequesterId, byte[]> _functions = [];
    private uint _address;
    private uint? _written;

    /// <summary>
    /// What a register reads, by its address (bus from bit 16, device and function from bit 8) and what was written to
    /// it just before; instead of the functions added.
    /// </summary>
    public Func<uint, uint?, uint>? OnRead { get; set; }

    public PhysicalMemory Memory => _banks.Memory;

    public IFrameAllocator Frames => throw new NotSupportedException();

    public IPlatformClock Clock => throw new NotSupportedException();

    public bool HasPci { get; init; } = true;

    public IPciConfiguration? Pci => HasPci ? new PciPorts(this) : null;

    public PhysicalRange? BarWindow { get; init; } = MachineMap.BarWindow;

    public Lock TwoStepAccess { get; } = new();

    public LogicalRange? InterruptWindow => null;

    public IReadOnlyList<LogicalRange> BusWindows => [];

    public void Add(RequesterId id, uint ids, byte header)
    {
        byte[] bytes = new byte[256];
        BitConverter.TryWriteBytes(bytes, ids);
        bytes[0x0E] = header;
        _functions[id] = bytes;
    }

    public void AddBridge(RequesterId id, byte secondary)
    {
        Add(id, 0x0001_8086, header: 1);
        _functions[id][0x19] = secondary;
    }

    public uint In32(ushort port)
    {
        AssertWhole();
        if (OnRead is { } answer) { return answer(_address & 0xFF_FFFC, _written); }
        return _functions.TryGetValue(new((ushort)(_address >> 8)), out byte[]? bytes)
            ? BitConverter.ToUInt32(bytes, (int)(_address & 0xFC))
            : uint.MaxValue;
    }

    public void Out32(ushort port, uint value)
    {
        AssertWhole();
        if (port != 0xCF8) { _written = value; }
        else if (_address != value) { (_address, _written) = (value, null); }
    }

    public byte In8(ushort port) => (byte)(In32(port) >> (8 * (port & 3)));

    public ushort In16(ushort port) => (ushort)(In32(port) >> (8 * (port & 2)));

    public void Out8(ushort port, byte value) => throw new NotSupportedException();

    public void Out16(ushort port, ushort value)
    {
        AssertWhole();
        Assert.Equal(0xCFC, port);
    }

    public RegisterWindow MapRegisters(PhysicalAddress first, uint length) => throw new NotSupportedException();

    public IInterruptLine ConnectInterrupt(string name, Action handler) => throw new NotSupportedException();

    public void Dispose() => _banks.Dispose();

    private void AssertWhole() => Assert.True(TwoStepAccess.IsHeldByCurrentThread, "half a configuration cycle");
}
