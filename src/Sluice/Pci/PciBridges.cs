namespace Sluice;

/// <summary>
/// What PCI bridges say of the buses behind them, as firmware or an operating system numbered them. A function that
/// cannot be reached is absent.
/// </summary>
/// <remarks>
/// PCI-to-PCI bridge specification 3.2 (bus numbers); PCI Express Base 7.8 (the PCI Express capability). Safe from any
/// thread; remembers nothing.
/// </remarks>
/// <param name="configuration">The machine's; null where it has no PCI, and no bridges.</param>
public sealed class PciBridges(IPciConfiguration? configuration)
{
    private const int BridgeHeader = 1;
    private const int SecondaryBus = 0x19;
    private const int SubordinateBus = 0x1A;
    private const byte Absent = 0xFF;
    private const int MaximumCapabilities = 48;

    // Device/port types of the PCI Express capability that end or begin conventional PCI.
    private const int ExpressToPci = 7;
    private const int PciToExpress = 8;

    /// <summary>
    /// The bus behind a bridge; null when there is no bridge, or its buses are not numbered, or not as buses are.
    /// </summary>
    /// <param name="bridge">Which function.</param>
    public byte? SecondaryBusOf(PciAddress bridge) => TryGetBuses(bridge, out byte first, out _) ? first : null;

    /// <summary>
    /// All buses behind a bridge; false when there is no bridge, or when it has no numbers yet (0 and 0) or none that
    /// could be: what is behind a bridge has higher numbers than the bus that it is on.
    /// </summary>
    /// <param name="bridge">Which function.</param>
    /// <param name="first">The bus on its other side.</param>
    /// <param name="last">The highest bus behind it, not below <paramref name="first"/>.</param>
    public bool TryGetBuses(PciAddress bridge, out byte first, out byte last)
    {
        (first, last) = (0, 0);
        if (!IsBridge(bridge)) { return false; }
        (first, last) = (Secondary(bridge), Read(bridge, SubordinateBus));
        return first > bridge.Requester.Bus && last >= first;
    }

    /// <summary>
    /// Whether a bridge puts a requester id of its own on what comes from behind it. One without the PCI Express
    /// capability joins conventional buses and does; of those with it, only the two kinds do that end or begin
    /// conventional PCI.
    /// </summary>
    /// <param name="bridge">A bridge.</param>
    public bool ReplacesRequesters(PciAddress bridge)
    {
        if ((Read(bridge, PciConfig.Status) & PciConfig.StatusCapabilities) == 0) { return true; }
        int at = Read(bridge, PciConfig.CapabilityPointer) & 0xFC;
        for (int i = 0; i < MaximumCapabilities && at >= PciConfig.FirstCapability; i++)
        {
            if (Read(bridge, at) == PciConfig.CapabilityExpress)
            {
                return Read(bridge, at + 2) >> 4 is ExpressToPci or PciToExpress;
            }
            at = Read(bridge, at + 1) & 0xFC;
        }
        return true;
    }

    /// <summary>
    /// The functions that answer on one bus, in order of their addresses, read as they are asked for.
    /// </summary>
    /// <param name="segment">The bus's segment.</param>
    /// <param name="bus">Its number.</param>
    public IEnumerable<PciAddress> FunctionsOn(ushort segment, byte bus)
    {
        for (int device = 0; device < 32; device++)
        {
            int functions = 1;
            for (int function = 0; function < functions; function++)
            {
                PciAddress address = new(segment, RequesterId.From(bus, device, function));
                byte header = HeaderOf(address);
                if (header == Absent) { continue; }
                if ((header & PciConfig.MultiFunction) != 0) { functions = 8; }
                yield return address;
            }
        }
    }

    internal bool IsBridge(PciAddress function) =>
        (HeaderOf(function) & ~PciConfig.MultiFunction) == BridgeHeader;

    /// <summary>What a bridge's register says, whether that can be or not.</summary>
    internal byte Secondary(PciAddress bridge) => Read(bridge, SecondaryBus);

    private byte HeaderOf(PciAddress function) => Read(function, PciConfig.HeaderType);

    private byte Read(PciAddress function, int offset) => configuration?.Read8(function, offset) ?? Absent;
}
