using Sluice.Formats.Acpi;

namespace Sluice.Remapping.Vtd;

/// <summary>Finds remapping units in the firmware's tables.</summary>
/// <remarks>
/// A table that lost part of itself is refused: half a description of who must be kept apart is worse than none. So is
/// one whose numbers no machine has, because everything is computed from them. A scope that leads to no device, or into
/// a segment that the port space cannot reach, is left out; such a device ends up blocked.
/// </remarks>
internal static class FirmwareDiscovery
{
    private const int RegisterPageLog2 = 12;

    /// <summary>What the DMAR table says.</summary>
    /// <exception cref="RemappingException">There is no usable table.</exception>
    public static FirmwareDescription Find(IPlatform platform)
    {
        AcpiTables tables = AcpiTables.Find(platform.Memory);
        if (tables.RootPointer is null)
        {
            throw new RemappingException($"no firmware tables: {tables.Diagnostics[0]}");
        }
        AcpiTable table = tables.Find("DMAR")
            ?? throw new RemappingException("the firmware describes no remapping unit: no DMAR table");
        DmarTable dmar = DmarTable.Parse(table);
        foreach (AcpiDiagnostic problem in tables.Diagnostics.Where(other => other.Table == "DMAR").Concat(
            dmar.Diagnostics))
        {
            if (LosesSomething(problem.Problem))
            {
                throw new RemappingException($"the firmware's DMAR table is damaged: {problem}");
            }
        }
        if (!table.IsChecksumValid)
        {
            throw new RemappingException("the firmware's DMAR table is damaged: its bytes do not sum to 0");
        }
        if (dmar.Units.Count == 0)
        {
            throw new RemappingException("the firmware's DMAR table names no remapping unit");
        }
        if (dmar.Units.DistinctBy(unit => unit.Registers).Count() != dmar.Units.Count)
        {
            throw new RemappingException("the firmware's DMAR table names the same remapping unit twice");
        }
        if (dmar.Units.FirstOrDefault(unit => !unit.Registers.IsAligned(RegisterPageLog2)) is { } odd)
        {
            throw new RemappingException(
                $"the firmware's DMAR table is damaged: the registers of a unit at {odd.Registers}, not on a page");
        }
        PciBridges bridges = new(platform);
        return new(
            dmar.HostAddressBits,
            [
                .. dmar.Units.Select(unit => new VtdUnitDescription(
                    unit.Registers, 1u << RegisterPageLog2 << unit.RegisterPagesLog2, unit.Segment, unit.IncludesAll,
                    Resolve(unit.Scopes, unit.Segment, bridges))),
            ],
            [
                .. dmar.ReservedRegions.Select(region => new FirmwareRegion(
                    region.Range, region.Segment, Resolve(region.Scopes, region.Segment, bridges))),
            ])
        {
            Groups = bridges.FindGroups(),
        };
    }

    private static List<ScopeMatch> Resolve(IReadOnlyList<DmarScope> scopes, ushort segment, PciBridges bridges)
    {
        List<ScopeMatch> matches = [];
        foreach (DmarScope scope in scopes)
        {
            // Interrupt controllers and timers do no DMA; namespace devices have no requester id of their own to
            // attach.
            if (scope.Type is not (DmarScopeType.Endpoint or DmarScopeType.Bridge)) { continue; }
            if (!scope.TryResolve(segment, bridges.SecondaryBusOf, out PciAddress device)) { continue; }
            matches.Add(scope.Type == DmarScopeType.Bridge && bridges.TryGetBuses(device, out byte first, out byte last)
                ? new(device.Requester, first, last)
                : new(device.Requester));
        }
        return matches;
    }

    // What is lost, or was never right; the offset of a page is looked at by unit.
    private static bool LosesSomething(AcpiProblem problem) => problem is
        AcpiProblem.BadChecksum or AcpiProblem.Unreachable or AcpiProblem.TableTooShort or AcpiProblem.TableTooLong
        or AcpiProblem.StructureTooShort or AcpiProblem.StructureTooLong or AcpiProblem.TooMany
        or AcpiProblem.NoRegisters or AcpiProblem.BadAddressWidth;
}
