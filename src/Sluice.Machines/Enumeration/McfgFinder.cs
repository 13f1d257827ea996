using Sluice.Formats.Acpi;
using FirmwareTables = Sluice.Formats.Acpi.AcpiTables;

namespace Sluice.Machines;

/// <summary>
/// Finds ECAM of segment 0 from bus 0 up in the firmware's tables. Damaged tables are as good as none: ports work
/// without.
/// </summary>
internal static class McfgFinder
{
    public static bool TryFind(IPlatform platform, out PhysicalAddress ecam)
    {
        ecam = default;
        FirmwareTables tables = FirmwareTables.Find(platform.Memory, platform.FirmwareTables);
        if (tables.Find("MCFG") is not { IsChecksumValid: true } table) { return false; }
        foreach (EcamWindow window in McfgTable.Parse(table).Windows)
        {
            if (window is not { Segment: 0, FirstBus: 0 }) { continue; }
            ecam = window.Base;
            return true;
        }
        return false;
    }
}
