using Sluice.Formats.Acpi;
using FirmwareTables = Sluice.Formats.Acpi.AcpiTables;

namespace Sluice.Machines;

/// <summary>
/// Finds ECAM of segment 0 from bus 0 up in the firmware's tables. Damaged tables, and ones that lead nowhere, are as
/// good as none: ports work without.
/// </summary>
internal static class McfgFinder
{
    /// <summary>The window; false where there is none, or its table is damaged.</summary>
    public static bool TryFind(IPlatform platform, out EcamWindow window)
    {
        window = default;
        FirmwareTables tables = FirmwareTables.Find(platform.Memory, platform.FirmwareTables);
        if (tables.Find("MCFG") is not { IsChecksumValid: true } table) { return false; }
        foreach (EcamWindow one in McfgTable.Parse(table).Windows)
        {
            // ECAM lies on whole buses of 1 MiB.
            if (one is not { Segment: 0, FirstBus: 0 } || !one.Base.IsAligned(20)) { continue; }
            window = one;
            return true;
        }
        return false;
    }
}
