namespace Sluice.Remapping.Vtd;

/// <summary>Asks PCI bridges of segment 0 which buses are behind them, through the configuration ports.</summary>
/// <remarks>PCI specification 3.2.2.3.2 (ports) and PCI-to-PCI bridge specification 3.2 (bus numbers).</remarks>
internal sealed class PciBridges(IPlatform platform)
{
    private const ushort AddressPort = 0xCF8;
    private const ushort DataPort = 0xCFC;
    private const int HeaderType = 0x0E;
    private const int SecondaryBus = 0x19;
    private const int SubordinateBus = 0x1A;
    private const int Status = 0x06;
    private const int FirstCapability = 0x34;
    private const byte Absent = 0xFF;
    private const byte MultiFunction = 0x80;
    private const byte ExpressCapability = 0x10;
    private const int MaximumCapabilities = 48;

    // Device/port types of the PCI Express capability that end or begin conventional PCI.
    private const int ExpressToPci = 7;
    private const int PciToExpress = 8;

    /// <summary>
    /// The bus behind a bridge; null when there is no bridge, or its buses are not numbered, or not as buses are.
    /// </summary>
    public byte? SecondaryBusOf(PciAddress bridge) => TryGetBuses(bridge, out byte first, out _) ? first : null;

    /// <summary>
    /// All buses behind a bridge; false when there is no bridge, or when it has no numbers yet (0 and 0) or none that
    /// could be: what is behind a bridge has higher numbers than the bus that it is on.
    /// </summary>
    public bool TryGetBuses(PciAddress bridge, out byte first, out byte last)
    {
        (first, last) = (0, 0);
        if (bridge.Segment != 0 || (Read(bridge, HeaderType) & 0x7F) != 1) { return false; }
        (first, last) = (Read(bridge, SecondaryBus), Read(bridge, SubordinateBus));
        return first > bridge.Requester.Bus && last >= first;
    }

    /// <summary>
    /// The groups behind bridges that replace requester ids, as firmware numbered the buses. Goes through every bus at
    /// most once and only to higher ones, so whatever bridges claim, the search ends after 65,536 functions.
    /// </summary>
    public IReadOnlyList<AliasGroup> FindGroups()
    {
        List<AliasGroup> groups = [];
        FindGroups(bus: 0, groups, new bool[256]);
        return groups;
    }

    private void FindGroups(int bus, List<AliasGroup> groups, bool[] seen)
    {
        if (seen[bus]) { return; }
        seen[bus] = true;
        for (int device = 0; device < 32; device++)
        {
            int functions = 1;
            for (int function = 0; function < functions; function++)
            {
                PciAddress address = PciAddress.From(bus, device, function);
                byte header = Read(address, HeaderType);
                if (header == Absent) { continue; }
                if ((header & MultiFunction) != 0) { functions = 8; }
                if (!TryGetBuses(address, out byte first, out byte last)) { continue; }
                if (ReplacesRequesters(address)) { groups.Add(new(address, first, last)); }
                else { FindGroups(first, groups, seen); }
            }
        }
    }

    // A bridge without the capability joins conventional buses; of those with it, only two kinds do.
    private bool ReplacesRequesters(PciAddress bridge)
    {
        if ((Read(bridge, Status) & 0x10) == 0) { return true; }
        int at = Read(bridge, FirstCapability) & 0xFC;
        for (int i = 0; i < MaximumCapabilities && at >= 0x40; i++)
        {
            if (Read(bridge, at) == ExpressCapability)
            {
                return Read(bridge, at + 2) >> 4 is ExpressToPci or PciToExpress;
            }
            at = Read(bridge, at + 1) & 0xFC;
        }
        return true;
    }

    private byte Read(PciAddress function, int offset)
    {
        platform.Ports.Out32(AddressPort, 0x8000_0000u | ((uint)function.Requester.Value << 8) | ((uint)offset & 0xFC));
        return platform.Ports.In8((ushort)(DataPort + (offset & 3)));
    }
}
