using Sluice.Formats.Acpi;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>Finds VT-d units: in the firmware's DMAR table.</summary>
/// <remarks>
/// A table that lost part of itself is refused: half a description of who must be kept apart is worse than none. So is
/// one whose numbers no machine has, because everything is computed from them. What else is wrong, a scope that leads to
/// no device or a reversed region, is left out and told (<see cref="FirmwareDescription.Problems"/>); such a device ends
/// up blocked.
/// </remarks>
internal sealed class FirmwareDiscovery : IUnitFinder
{
    private const int RegisterPageLog2 = 12;
    private const int MostProblems = 1024;

    /// <inheritdoc/>
    public bool IsDescribed(IPlatform platform)
    {
        AcpiTables tables = AcpiTables.Find(platform.Memory, platform.FirmwareTables);
        return tables.Find("DMAR") is not null || MayHideUnits(platform, tables);
    }

    /// <inheritdoc/>
    public FirmwareDescription? Find(IPlatform platform, out string absence)
    {
        AcpiTables tables = AcpiTables.Find(platform.Memory, platform.FirmwareTables);
        if (tables.Find("DMAR") is { } table)
        {
            absence = "";
            return Read(platform, tables, table);
        }
        if (MayHideUnits(platform, tables))
        {
            throw new RemappingException(
                $"the firmware's tables are damaged, and may have described a remapping unit: {FirstOf(tables)}");
        }
        absence = tables.RootPointer is null
            ? $"no firmware tables: {tables.Diagnostics[0]}"
            : "the firmware describes no remapping unit: no DMAR table";
        return null;
    }

    private static FirmwareDescription Read(IPlatform platform, AcpiTables tables, AcpiTable table)
    {
        DmarTable dmar = DmarTable.Parse(table);
        List<string> problems = [];
        foreach (AcpiDiagnostic problem in tables.Diagnostics.Where(other => other.Table == "DMAR").Concat(
            dmar.Diagnostics))
        {
            if (LosesSomething(problem.Problem))
            {
                throw new RemappingException($"the firmware's DMAR table is damaged: {problem}");
            }
            problems.Add(problem.ToString());
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
        foreach (IGrouping<ushort, DmarUnit> segment in dmar.Units.Where(static unit => unit.IncludesAll)
            .GroupBy(static unit => unit.Segment).Where(static units => units.Count() > 1))
        {
            problems.Add($"{segment.Count()} units serve all the rest of segment {segment.Key:x4}: the first is taken");
        }
        PciBridges bridges = new(platform.Pci);
        Resolver resolver = new(bridges, problems);
        return new(
            dmar.HostAddressBits,
            [
                .. dmar.Units.Select(unit => new VtdUnitDescription(
                    unit.Registers, unit.Segment, unit.IncludesAll,
                    resolver.Resolve(unit.Scopes, unit.Segment, $"unit at {unit.Registers}"))),
            ],
            [
                .. dmar.ReservedRegions.Select(region => new FirmwareRegion(
                    region.Range, region.Segment,
                    resolver.Resolve(region.Scopes, region.Segment, $"reserved memory {region.Range}"))),
            ])
        {
            Groups = AliasGroups.Find(bridges, RootBuses(dmar)),
            Problems = problems,
        };
    }

    // Without a DMAR table. Whatever is damaged may have been one, or have led to one: an entry that leads nowhere, a
    // table whose bytes do not sum to 0 (its name is among them), or the list itself. No root pointer is no table at
    // all, except where the host says that there is one.
    private static bool MayHideUnits(IPlatform platform, AcpiTables tables) =>
        tables.RootPointer is null && platform.FirmwareTables is not null
        || tables.Diagnostics.Any(static one => one.Problem != AcpiProblem.NoRootPointer);

    // What is wrong with the DMAR table itself says more than the rest.
    private static AcpiDiagnostic FirstOf(AcpiTables tables) =>
        tables.Diagnostics.OrderByDescending(static one => one.Table == "DMAR").First();

    // Scopes start at root buses.
    private static IEnumerable<(ushort Segment, byte Bus)> RootBuses(DmarTable dmar) =>
        dmar.Units.SelectMany(static unit =>
            unit.Scopes.Where(IsDevice).Select(scope => (unit.Segment, scope.StartBus)).Append((unit.Segment, (byte)0)))
        .Concat(dmar.ReservedRegions.SelectMany(static region =>
            region.Scopes.Where(IsDevice).Select(scope => (region.Segment, scope.StartBus))))
        .Concat(dmar.RootPorts.SelectMany(static list =>
            list.Scopes.Where(IsDevice).Select(scope => (list.Segment, scope.StartBus))));

    // Interrupt controllers and timers do no DMA. A device of the ACPI namespace does: under the requester id that its
    // start bus and path name, though nothing answers there in configuration space.
    private static bool IsDevice(DmarScope scope) =>
        scope.Type is DmarScopeType.Endpoint or DmarScopeType.Bridge or DmarScopeType.NamespaceDevice;

    private sealed class Resolver(PciBridges bridges, List<string> problems)
    {
        public List<ScopeMatch> Resolve(IReadOnlyList<DmarScope> scopes, ushort segment, string where)
        {
            List<ScopeMatch> matches = [];
            foreach (DmarScope scope in scopes.Where(IsDevice))
            {
                if (!scope.TryResolve(segment, bridges.SecondaryBusOf, out PciAddress device))
                {
                    string path = string.Join('/', scope.Path.Select(static one => $"{one.Device:x2}.{one.Function:x}"));
                    if (problems.Count < MostProblems)
                    {
                        problems.Add($"{where} names a device by bus {scope.StartBus:x2} and {path}: there is none");
                    }
                    continue;
                }
                bool isBridge = scope.Type == DmarScopeType.Bridge;
                matches.Add(isBridge && bridges.TryGetBuses(device, out byte first, out byte last)
                    ? new(device.Requester, first, last)
                    : new(device.Requester));
            }
            return matches;
        }
    }

    // What is lost, or was never right; the offset of a page is looked at by unit.
    private static bool LosesSomething(AcpiProblem problem) => problem is
        AcpiProblem.BadChecksum or AcpiProblem.Unreachable or AcpiProblem.TableTooShort or AcpiProblem.TableTooLong
        or AcpiProblem.StructureTooShort or AcpiProblem.StructureTooLong or AcpiProblem.TooMany
        or AcpiProblem.NoRegisters or AcpiProblem.BadAddressWidth or AcpiProblem.CutShort;
}
