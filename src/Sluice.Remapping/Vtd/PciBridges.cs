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

    /// <summary>The bus behind a bridge; null when there is no bridge.</summary>
    public byte? SecondaryBusOf(PciAddress bridge) => TryGetBuses(bridge, out byte first, out _) ? first : null;

    /// <summary>All buses behind a bridge; false when there is no bridge.</summary>
    public bool TryGetBuses(PciAddress bridge, out byte first, out byte last)
    {
        (first, last) = (0, 0);
        if (bridge.Segment != 0 || (Read(bridge, HeaderType) & 0x7F) != 1) { return false; }
        (first, last) = (Read(bridge, SecondaryBus), Read(bridge, SubordinateBus));
        return true;
    }

    private byte Read(PciAddress function, int offset)
    {
        platform.Ports.Out32(AddressPort, 0x8000_0000u | ((uint)function.Requester.Value << 8) | ((uint)offset & 0xFC));
        return platform.Ports.In8((ushort)(DataPort + (offset & 3)));
    }
}
