namespace Sluice.Formats.Acpi;

/// <summary>
/// The way into configuration space that the firmware's tables describe (MCFG), for platforms to which nobody else
/// tells one.
/// </summary>
public static class FirmwarePci
{
    /// <summary>
    /// Configuration space in memory for the buses where the tables say that there is some and somebody answers, ports
    /// for the other buses of segment 0. Damaged tables, and ones that lead nowhere, are as good as none.
    /// </summary>
    /// <param name="platform">Its memory is read for the tables now; its registers are mapped when they are
    /// needed.</param>
    /// <param name="ports">The machine's port space; null where it has none.</param>
    /// <returns>Null when there are no ports, and no table names configuration space.</returns>
    public static IPciConfiguration? Find(IPlatform platform, IPortIo? ports)
    {
        ArgumentNullException.ThrowIfNull(platform);
        AcpiTables tables = AcpiTables.Find(platform.Memory, platform.FirmwareTables);
        IReadOnlyList<EcamWindow> windows =
            tables.Find("MCFG") is { IsChecksumValid: true } table ? McfgTable.Parse(table).Windows : [];
        PciEcam memory = new(platform, windows);
        return ports is not null ? new MemoryElsePorts(memory, new(ports)) : windows.Count == 0 ? null : memory;
    }

    private sealed class MemoryElsePorts(PciEcam memory, PciPorts ports) : IPciConfiguration
    {
        public int LengthOf(PciAddress address) => Of(address).LengthOf(address);

        public uint Read(PciAddress address, int offset, int size) => Of(address).Read(address, offset, size);

        public void Write(PciAddress address, int offset, int size, uint value) =>
            Of(address).Write(address, offset, size, value);

        private IPciConfiguration Of(PciAddress address) => memory.LengthOf(address) != 0 ? memory : ports;
    }
}
