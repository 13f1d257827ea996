namespace Sluice.Formats.Acpi;

/// <summary>
/// The DMA remapping table (DMAR): which VT-d units there are, which devices are behind each, and which memory firmware
/// wants kept mapped.
/// <code>
/// 36 host address width − 1 u8   37 flags u8   38 reserved[10]   48 structures: type u16, length u16, …
/// </code>
/// </summary>
/// <remarks>VT-d specification 8. <see cref="Parse"/> never throws and never trusts a length.</remarks>
/// <param name="HostAddressBits">
/// The width of physical addresses that devices can reach: 1 to 256 as it stands in the table, 32 to 52 in a sound one.
/// </param>
/// <param name="Flags">
/// Bit 0 interrupt remapping, bit 1 firmware asks not to use x2APIC, bit 2 firmware protects against DMA before boot.
/// </param>
/// <param name="Units">DRHD structures, in table order.</param>
/// <param name="ReservedRegions">RMRR structures.</param>
/// <param name="RootPorts">ATSR structures: root ports that carry address translation services.</param>
/// <param name="Affinities">RHSA structures.</param>
/// <param name="NamedDevices">ANDD structures.</param>
/// <param name="AddressTranslationCaches">
/// SATC structures: integrated devices with an address translation cache.
/// </param>
/// <param name="IntegratedDevices">SIDP structures: integrated devices with properties in their scopes' flags.</param>
/// <param name="Diagnostics">What was wrong; empty for a sound table.</param>
public sealed record DmarTable(
    int HostAddressBits,
    byte Flags,
    IReadOnlyList<DmarUnit> Units,
    IReadOnlyList<DmarReservedRegion> ReservedRegions,
    IReadOnlyList<DmarScopeList> RootPorts,
    IReadOnlyList<DmarAffinity> Affinities,
    IReadOnlyList<DmarNamedDevice> NamedDevices,
    IReadOnlyList<DmarScopeList> AddressTranslationCaches,
    IReadOnlyList<DmarScopeList> IntegratedDevices,
    IReadOnlyList<AcpiDiagnostic> Diagnostics)
{
    /// <summary>Flag 0: the platform supports interrupt remapping.</summary>
    public bool InterruptRemapping => (Flags & 1) != 0;

    /// <summary>Flag 1: firmware asks the operating system not to use x2APIC.</summary>
    public bool X2ApicOptOut => (Flags & 2) != 0;

    /// <summary>Flag 2: firmware opts in to DMA protection from the start (untrusted external ports).</summary>
    public bool PlatformOptIn => (Flags & 4) != 0;

    /// <summary>Reads a table. A damaged one gives what could be read, and diagnostics.</summary>
    public static DmarTable Parse(AcpiTable table)
    {
        ArgumentNullException.ThrowIfNull(table);
        return new DmarParser(table).Parse();
    }
}

/// <summary>DRHD: one remapping unit.</summary>
/// <param name="Segment">The PCI segment it serves.</param>
/// <param name="Registers">The first byte of its register set.</param>
/// <param name="RegisterPagesLog2">The register set is 2^n pages of 4 KiB.</param>
/// <param name="IncludesAll">It serves every device of the segment that no other unit lists.</param>
/// <param name="Scopes">The devices it serves.</param>
public sealed record DmarUnit(
    ushort Segment, PhysicalAddress Registers, int RegisterPagesLog2, bool IncludesAll,
    IReadOnlyList<DmarScope> Scopes);

/// <summary>RMRR: memory that its devices use from before boot and must keep, mapped one to one.</summary>
/// <param name="Segment">The devices' PCI segment.</param>
/// <param name="Range">The memory.</param>
/// <param name="Scopes">The devices.</param>
public sealed record DmarReservedRegion(ushort Segment, PhysicalRange Range, IReadOnlyList<DmarScope> Scopes);

/// <summary>ATSR, SATC or SIDP: a list of devices with flags.</summary>
/// <param name="Segment">The devices' PCI segment.</param>
/// <param name="Flags">ATSR bit 0: all root ports. SATC bit 0: the cache is required.</param>
/// <param name="Scopes">The devices.</param>
public sealed record DmarScopeList(ushort Segment, byte Flags, IReadOnlyList<DmarScope> Scopes);

/// <summary>RHSA: which memory a unit is near to.</summary>
/// <param name="Registers">The unit's register base.</param>
/// <param name="ProximityDomain">As in the SRAT.</param>
public sealed record DmarAffinity(PhysicalAddress Registers, uint ProximityDomain);

/// <summary>ANDD: a device that is not on PCI.</summary>
/// <param name="Number">What scopes of type <see cref="DmarScopeType.NamespaceDevice"/> call it.</param>
/// <param name="Name">Its path in the ACPI namespace.</param>
public sealed record DmarNamedDevice(byte Number, string Name);
