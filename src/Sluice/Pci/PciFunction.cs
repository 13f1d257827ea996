namespace Sluice;

/// <summary>A PCI function as operating-system code holds it: ids, BARs, and the switches a driver needs.</summary>
/// <remarks>
/// Safe from any thread, except that enabling and disabling the same function's parts is one thread's job.
/// </remarks>
public sealed class PciFunction
{
    private const int MaximumCapabilities = 48;
    private readonly IPlatform _platform;
    private readonly IPciConfiguration _config;
    private readonly List<PciBarWindow> _bars;

    internal PciFunction(IPlatform platform, IPciConfiguration config, PciAddress address, List<PciBarWindow> bars)
    {
        (_platform, _config, Address, _bars) = (platform, config, address, bars);
        VendorId = config.Read16(address, PciConfig.Vendor);
        DeviceId = config.Read16(address, PciConfig.Device);
        ClassCode = (int)(config.Read32(address, PciConfig.Revision) >> 8);
        Revision = config.Read8(address, PciConfig.Revision);
    }

    /// <summary>Where it is.</summary>
    public PciAddress Address { get; }

    /// <summary>Who made it.</summary>
    public ushort VendorId { get; }

    /// <summary>Which of the maker's devices it is.</summary>
    public ushort DeviceId { get; }

    /// <summary>24 bits: class, subclass, programming interface.</summary>
    public int ClassCode { get; }

    /// <summary>Its revision.</summary>
    public byte Revision { get; }

    /// <summary>Its memory BARs, lowest index first.</summary>
    public IReadOnlyList<PciBarWindow> Bars => _bars;

    /// <summary>Bytes of configuration space that can be reached: 256 by ports, 4096 in memory.</summary>
    public int ConfigLength => _config.LengthOf(Address);

    /// <summary>Vectors of its MSI-X table; 0 without MSI-X.</summary>
    public int MsixVectors =>
        TryFindCapability(PciConfig.CapabilityMsix, out int at) ? (Read16(at + 2) & 0x7FF) + 1 : 0;

    /// <summary>Reads configuration space.</summary>
    /// <param name="offset">In bytes, a multiple of <paramref name="size"/>.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <returns>All ones, of that size, where nothing is (<see cref="IPciConfiguration.Read"/>).</returns>
    public uint ReadConfig(int offset, int size) => _config.Read(Address, offset, size);

    /// <summary>Finds a capability by its id.</summary>
    /// <param name="id">As <see cref="PciConfig.CapabilityMsi"/>.</param>
    /// <param name="offset">Of its first byte.</param>
    /// <returns>False when it is not in the list, or the list is damaged before it.</returns>
    public bool TryFindCapability(byte id, out int offset)
    {
        offset = 0;
        if ((Read16(PciConfig.Status) & PciConfig.StatusCapabilities) == 0) { return false; }
        offset = (int)ReadConfig(PciConfig.CapabilityPointer, 1) & 0xFC;
        for (int i = 0; i < MaximumCapabilities && offset >= PciConfig.FirstCapability; i++)
        {
            uint header = Read16(offset);
            if ((byte)header == id) { return true; }
            offset = (int)(header >> 8) & 0xFC;
        }
        return false;
    }

    /// <summary>Enables memory decoding and maps a BAR.</summary>
    /// <param name="index">Which BAR, 0 to 5; of a 64-bit one its lower register.</param>
    /// <exception cref="PciException">The function has no such BAR, or nobody gave it an address.</exception>
    public RegisterWindow MapBar(int index)
    {
        PciBarWindow bar = _bars.Find(b => b.Index == index);
        if (bar.Size == 0) { throw new PciException($"{Address} has no memory BAR {index}"); }
        if (bar.First == default) { throw new PciException($"BAR {index} of {Address} has no address"); }
        SetCommand(PciConfig.CommandMemory, true);
        return _platform.MapRegisters(bar.First, (uint)Math.Min(bar.Size, 1u << 31));
    }

    /// <summary>Lets the function issue DMA and messages.</summary>
    public void EnableBusMaster() => SetCommand(PciConfig.CommandBusMaster, true);

    /// <summary>Tells the function to stop issuing DMA and messages.</summary>
    public void DisableBusMaster() => SetCommand(PciConfig.CommandBusMaster, false);

    /// <summary>Directs MSI to an interrupt line and enables it.</summary>
    /// <param name="line">Stays the caller's, who keeps it while MSI is enabled.</param>
    /// <exception cref="PciException">The function has no MSI.</exception>
    public void EnableMsi(IInterruptLine line)
    {
        ArgumentNullException.ThrowIfNull(line);
        int at = Require(PciConfig.CapabilityMsi, "MSI");
        ushort control = Read16(at + 2);
        bool wide = (control & PciConfig.Msi64) != 0;
        _config.Write32(Address, at + 4, (uint)line.Message.Address.Value);
        if (wide) { _config.Write32(Address, at + 8, (uint)(line.Message.Address.Value >> 32)); }
        _config.Write16(Address, at + (wide ? 0xC : 8), (ushort)line.Message.Data);
        _config.Write16(Address, at + 2, (ushort)(control | PciConfig.MsiEnable));
    }

    /// <summary>Directs one MSI-X vector to an interrupt line, unmasks it, and enables MSI-X.</summary>
    /// <param name="vector">From 0, below <see cref="MsixVectors"/>.</param>
    /// <param name="line">Stays the caller's, who keeps it while the vector is in use.</param>
    /// <exception cref="PciException">The function has no such vector.</exception>
    public void EnableMsix(int vector, IInterruptLine line)
    {
        ArgumentNullException.ThrowIfNull(line);
        int at = Require(PciConfig.CapabilityMsix, "MSI-X");
        RegisterWindow table = MapMsixTable(at, vector, out uint entry);
        ushort control = Read16(at + 2);
        // Enabled with the function masked: no half-written entry is ever used.
        _config.Write16(Address, at + 2, (ushort)(control | PciConfig.MsixEnable | PciConfig.MsixFunctionMask));
        table.Write32(entry + 12, PciConfig.MsixVectorMasked);
        table.Write32(entry, (uint)line.Message.Address.Value);
        table.Write32(entry + 4, (uint)(line.Message.Address.Value >> 32));
        table.Write32(entry + 8, line.Message.Data);
        table.Write32(entry + 12, 0);
        _config.Write16(Address, at + 2, (ushort)((control & ~PciConfig.MsixFunctionMask) | PciConfig.MsixEnable));
    }

    /// <summary>Masks one MSI-X vector: what the device raises is kept pending.</summary>
    /// <param name="vector">From 0, below <see cref="MsixVectors"/>.</param>
    /// <exception cref="PciException">The function has no such vector.</exception>
    public void MaskMsix(int vector)
    {
        RegisterWindow table = MapMsixTable(Require(PciConfig.CapabilityMsix, "MSI-X"), vector, out uint entry);
        table.Write32(entry + 12, PciConfig.MsixVectorMasked);
    }

    /// <summary>
    /// Resets the function through its PCI Express capability. Its configuration is as after power on, but for the
    /// BARs.
    /// </summary>
    /// <exception cref="PciException">The function cannot be reset alone.</exception>
    public void Reset()
    {
        const uint FunctionLevelReset = 1 << 28;
        const ushort InitiateReset = 1 << 15;
        int at = Require(PciConfig.CapabilityExpress, "PCI Express capability");
        if ((_config.Read32(Address, at + 4) & FunctionLevelReset) == 0)
        {
            throw new PciException($"{Address} cannot be reset alone");
        }
        _config.Write16(Address, at + 8, (ushort)(Read16(at + 8) | InitiateReset));
        foreach (PciBarWindow bar in _bars) { WriteBar(bar); }
    }

    internal void SetBar(PciBarWindow bar, PhysicalAddress address)
    {
        PciBarWindow placed = bar with { First = address };
        _bars[_bars.FindIndex(b => b.Index == bar.Index)] = placed;
        WriteBar(placed);
    }

    private void WriteBar(PciBarWindow bar)
    {
        int offset = PciConfig.FirstBar + bar.Index * 4;
        _config.Write32(Address, offset, (uint)bar.First.Value);
        if (bar.Is64Bit) { _config.Write32(Address, offset + 4, (uint)(bar.First.Value >> 32)); }
    }

    private RegisterWindow MapMsixTable(int capability, int vector, out uint entry)
    {
        if ((uint)vector >= (uint)MsixVectors)
        {
            throw new PciException($"{Address} has no MSI-X vector {vector}");
        }
        uint table = _config.Read32(Address, capability + 4);
        entry = (table & ~7u) + (uint)vector * PciConfig.MsixEntrySize;
        return MapBar((int)(table & 7));
    }

    private int Require(byte capability, string name) => TryFindCapability(capability, out int at)
        ? at
        : throw new PciException($"{Address} has no {name}");

    private ushort Read16(int offset) => _config.Read16(Address, offset);

    private void SetCommand(ushort bit, bool on)
    {
        ushort command = Read16(PciConfig.Command);
        _config.Write16(Address, PciConfig.Command, (ushort)(on ? command | bit : command & ~bit));
    }

    /// <summary>Address, ids and class, as <c>0000:00:04.0 1234:11e8 class 00ff00</c>.</summary>
    public override string ToString() => $"{Address} {VendorId:x4}:{DeviceId:x4} class {ClassCode:x6}";
}
