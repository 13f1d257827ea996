using Sluice.Remapping.Units;
using Sluice.Remapping.Vtd;

namespace Sluice.Remapping;

/// <summary>The kinds of unit that the operating-system side knows: a line each.</summary>
internal static class UnitCatalogue
{
    private static readonly IUnitFinder[] Kinds =
    [
        new FirmwareDiscovery(),
    ];

    /// <summary>Whether firmware describes a unit of any kind, or may.</summary>
    /// <param name="platform">The machine.</param>
    public static bool IsDescribed(IPlatform platform) => Kinds.Any(kind => kind.IsDescribed(platform));

    /// <summary>All units that firmware describes.</summary>
    /// <param name="platform">The machine.</param>
    /// <exception cref="RemappingException">There is none, or what firmware says is of no use.</exception>
    public static FirmwareDescription Find(IPlatform platform) => Find(platform, Kinds);

    /// <summary>As above, of some kinds.</summary>
    /// <param name="platform">The machine.</param>
    /// <param name="kinds">The kinds, at least one.</param>
    /// <exception cref="RemappingException">There is none, or what firmware says is of no use.</exception>
    internal static FirmwareDescription Find(IPlatform platform, IReadOnlyList<IUnitFinder> kinds)
    {
        FirmwareDescription? all = null;
        List<string> absences = [];
        foreach (IUnitFinder kind in kinds)
        {
            FirmwareDescription? found = kind.Find(platform, out string absence);
            if (found is null) { absences.Add(absence); }
            else { all = all?.With(found) ?? found; }
        }
        return all ?? throw new RemappingException(string.Join("; ", absences.Distinct()));
    }
}
