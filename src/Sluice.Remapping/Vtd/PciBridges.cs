using Sluice.Formats.Acpi;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// Asks PCI bridges which buses are behind them: in segment 0 through the configuration ports, in others through the
/// windows (ECAM) that firmware names. What cannot be reached is absent.
/// </summary>
/// <remarks>PCI-to-PCI bridge specification 3.2 (bus numbers); PCI Express Base 7.2.2 (ECAM).</remarks>
/// <param name="platform">The machine.</param>
/// <param name="windows">Configuration space in memory; segment 0 needs none.</param>
internal sealed class PciBridges(IPlatform platform, IReadOnlyList<EcamWindow> windows)
{
    private const int BusLog2 = 20;
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

    private readonly Dictionary<(ushort Segment, byte Bus), RegisterWindow?> _buses = [];

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
        if ((Read(bridge, HeaderType) & 0x7F) != 1) { return false; }
        (first, last) = (Read(bridge, SecondaryBus), Read(bridge, SubordinateBus));
        return first > bridge.Requester.Bus && last >= first;
    }

    /// <summary>
    /// The groups behind bridges that replace requester ids, as firmware numbered the buses. Goes through every bus at
    /// most once and from there only to higher ones, so whatever bridges claim, the search ends after 65,536 functions
    /// of each segment.
    /// </summary>
    /// <param name="roots">
    /// Where to begin besides bus 0 of segment 0: large machines have a root bus for every processor, and firmware
    /// names each of them.
    /// </param>
    public IReadOnlyList<AliasGroup> FindGroups(IEnumerable<(ushort Segment, byte Bus)> roots)
    {
        List<AliasGroup> groups = [];
        HashSet<(ushort Segment, int Bus)> seen = [];
        // Lower buses first: one that turns out to be behind another is not gone through again.
        foreach ((ushort segment, byte bus) in roots.Append(((ushort)0, (byte)0)).Distinct().Order())
        {
            FindGroups(segment, bus, groups, seen);
        }
        return groups;
    }

    private void FindGroups(
        ushort segment, byte bus, List<AliasGroup> groups, HashSet<(ushort Segment, int Bus)> seen)
    {
        if (!seen.Add((segment, bus))) { return; }
        for (int device = 0; device < 32; device++)
        {
            int functions = 1;
            for (int function = 0; function < functions; function++)
            {
                PciAddress address = new(segment, RequesterId.From(bus, device, function));
                byte header = Read(address, HeaderType);
                if (header == Absent) { continue; }
                if ((header & MultiFunction) != 0) { functions = 8; }
                if (!TryGetBuses(address, out byte first, out byte last)) { continue; }
                if (!ReplacesRequesters(address))
                {
                    FindGroups(segment, first, groups, seen);
                    continue;
                }
                groups.Add(new(address, first, last));
                for (int inside = first; inside <= last; inside++) { seen.Add((segment, inside)); }
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
        if (function.Segment == 0) { return ConfigurationPorts.Read8(platform.Ports, function, offset); }
        byte bus = function.Requester.Bus;
        if (!_buses.TryGetValue((function.Segment, bus), out RegisterWindow? window))
        {
            _buses[(function.Segment, bus)] = window = MapBus(new(function.Segment, RequesterId.From(bus, 0, 0)));
        }
        return window?.Read8(((uint)function.Requester.DeviceFunction << 12) | (uint)offset) ?? Absent;
    }

    private RegisterWindow? MapBus(PciAddress first)
    {
        foreach (EcamWindow window in windows)
        {
            if (!window.TryLocate(first, out PhysicalAddress at)) { continue; }
            try { return platform.MapRegisters(at, 1 << BusLog2); }
            catch (ArgumentException)
            {
                // Firmware says so, and nothing is there: as good as no window.
            }
        }
        return null;
    }
}
