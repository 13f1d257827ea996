namespace Sluice.Machines;

/// <summary>
/// Where things lie on the physical bus: QEMU's q35 map, so that a script that drives one machine drives the other.
/// </summary>
/// <remarks>
/// <code>
///        0 –     9_FFFF  RAM (kept by the firmware)
///   A_0000 –     F_FFFF  RAM here, video and ROM shadow on a PC (kept by the firmware); RSDP at F_5A00
///  10_0000 – low end     RAM: at most 2 GiB when there is more than 2.75 GiB of it, else all of it
/// B000_0000 – BFFF_FFFF  ECAM, 1 MiB per bus
/// C000_0000 – FEBF_FFFF  BARs
/// FED9_0000 – FED9_0FFF  remapping unit (to FED9_7FFF at most, with many fault records)
/// FEE0_0000 – FEEF_FFFF  interrupt messages
/// 1_0000_0000 –          RAM, the rest
/// </code>
/// </remarks>
public static class MachineMap
{
    /// <summary>Page size, log2.</summary>
    internal const int PageLog2 = 12;

    /// <summary>Page size in bytes.</summary>
    internal const ulong PageSize = 1UL << PageLog2;

    /// <summary>The least memory a machine can have: 16 MiB.</summary>
    public const ulong MinimumMemory = 16UL << 20;

    /// <summary>From this much memory on, only <see cref="SplitLowMemory"/> of it lies below 4 GiB.</summary>
    public const ulong SplitThreshold = 0xB000_0000;

    /// <summary>RAM below 4 GiB when memory is split.</summary>
    public const ulong SplitLowMemory = 0x8000_0000;

    /// <summary>Everything below is the firmware's: no frame of it is handed out.</summary>
    internal const ulong FirmwareEnd = 0x10_0000;

    /// <summary>RAM above the hole starts here.</summary>
    public static PhysicalAddress HighMemory => new(0x1_0000_0000);

    /// <summary>PCI configuration space, mapped: 1 MiB a bus, 4 KiB a function.</summary>
    public static PhysicalRange Ecam => new(new(0xB000_0000), new(0xBFFF_FFFF));

    /// <summary>Where BARs may be placed.</summary>
    public static PhysicalRange BarWindow => new(new(0xC000_0000), new(0xFEBF_FFFF));

    /// <summary>Where a 4-byte write of a device is an interrupt request, and no memory lies.</summary>
    public static LogicalRange InterruptWindow => new(new(0xFEE0_0000), new(0xFEEF_FFFF));

    /// <summary>The remapping unit's registers.</summary>
    public static PhysicalAddress RemappingUnit => new(0xFED9_0000);

    /// <summary>Where the RSDP lies: 16-byte aligned inside the area that operating systems search.</summary>
    internal static PhysicalAddress Rsdp => new(0xF_5A00);

    /// <summary>RAM below 4 GiB of a machine with <paramref name="memoryBytes"/> of memory.</summary>
    internal static ulong LowMemory(ulong memoryBytes) => memoryBytes >= SplitThreshold ? SplitLowMemory : memoryBytes;
}
