using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Sluice.Tidy.Tests;

/// <summary>The rules of the house (CONTRIBUTING), checked against the files themselves.</summary>
public sealed partial class HouseRules
{
    private const int LongestFile = 600;
    private const int LongestLine = 140;

    private static readonly Dictionary<string, int> Floors = new(StringComparer.Ordinal)
    {
        ["Sluice"] = 0,
        ["Sluice.Formats"] = 1,
        ["Sluice.Iommu"] = 2,
        ["Sluice.Remapping"] = 2,
        ["Sluice.Dma"] = 3,
        ["Sluice.Machines"] = 3,
        ["Sluice.Drivers"] = 4,
        ["Sluice.Dma.Wdm"] = 4,
        ["Sluice.Linux"] = 4,
        ["Sluice.VfioUser"] = 4,
        ["Sluice.Forensics"] = 4,
        ["Sluice.Cli"] = 5,
    };

    // Who sees another project's inside, besides its tests: the measuring program the rows, and
    // docs/adr/0013-the-wdm-layer-sees-inside.md.
    private static readonly string[] SeesInside =
        ["Sluice.Cli → Sluice.Benchmarks", "Sluice.Dma → Sluice.Dma.Wdm"];

    [Fact]
    public void ThereIsAHouse() => Assert.True(Repository.Sources.Count > 100 && Repository.AllCode.Count > 200);

    [Fact]
    public void ImportsGoDownOnly()
    {
        foreach (string project in Repository.Find("src", "*.csproj"))
        {
            string name = Path.GetFileNameWithoutExtension(project);
            Assert.True(
                Floors.TryGetValue(name, out int floor),
                $"{name} has no floor: give it one here and in docs/start-here.md");
            foreach (XElement reference in XDocument.Load(project).Descendants("ProjectReference"))
            {
                string target = Path.GetFileNameWithoutExtension(reference.Attribute("Include")!.Value);
                Assert.True(
                    Floors[target] < floor,
                    $"{name} (floor {floor}) imports {target} (floor {Floors[target]}): imports go down only");
            }
        }
    }

    [Fact]
    public void NobodySeesInsideButTestsAndOne()
    {
        IEnumerable<string> pairs =
            from project in Repository.Find("src", "*.csproj")
            from friend in XDocument.Load(project).Descendants("InternalsVisibleTo")
            let name = friend.Attribute("Include")!.Value
            where !name.EndsWith(".Tests", StringComparison.Ordinal)
            select $"{Path.GetFileNameWithoutExtension(project)} → {name}";
        Assert.Equal(SeesInside, pairs);
    }

    [Fact]
    public void EveryProjectHasItsTests()
    {
        foreach (string project in Repository.Find("src", "*.csproj"))
        {
            string name = Path.GetFileNameWithoutExtension(project);
            Assert.True(
                Directory.Exists(Path.Combine(Repository.Root, "tests", name + ".Tests")),
                $"{name} has no test project");
        }
    }

    [Fact]
    public void UnsafeCodeLivesInOnePlace()
    {
        IEnumerable<string> others = Repository.Find("src", "*.csproj")
            .Where(static path => !path.EndsWith("/Sluice.csproj", StringComparison.Ordinal));
        foreach (string project in others)
        {
            Assert.DoesNotContain("AllowUnsafeBlocks", File.ReadAllText(project), StringComparison.Ordinal);
        }
        Assert.All(
            Repository.Sources.Where(static path =>
                !Repository.Relative(path).StartsWith("src/Sluice/Native/", StringComparison.Ordinal)),
            static path => Assert.DoesNotMatch(UnsafeWord(), WithoutComments(File.ReadAllText(path))));
    }

    // Seen failing: a bridge search with an address and a data access of its own.
    [Fact]
    public void ConfigurationCyclesAreMadeInOnePlace() => Assert.Equal(
        ["src/Sluice.Machines/Pci/PciHost.cs", "src/Sluice/Pci/PciPorts.cs"],
        Repository.Sources
            .Where(static path => ConfigurationPort().IsMatch(WithoutComments(File.ReadAllText(path))))
            .Select(Repository.Relative));

    // Seen failing: the window of a PC in the classifier of faults.
    [Fact]
    public void TheInterruptWindowOfAPcIsNamedByThoseWhoHaveIt() => Assert.Equal(
        ["src/Sluice.Iommu/Vtd/InterruptRemapping.cs", "src/Sluice.Machines/MachineMap.cs",
            "src/Sluice.Remapping/Vtd/VtdProbe.cs"],
        Repository.Sources
            .Where(static path => InterruptWindow().IsMatch(WithoutComments(File.ReadAllText(path))))
            .Select(Repository.Relative)
            .Order(StringComparer.Ordinal));

    // A kind of unit is a folder, and a line in the catalogue. Seen failing: Domain with a using of the folder, and
    // CreateDomain that reserved the interrupt window by its name.
    [Fact]
    public void TheRemappingSideNamesAKindOfUnitInItsFolderAlone() => Assert.All(
        Repository.Sources.Where(static path => Repository.Relative(path) is var name
            && name.StartsWith("src/Sluice.Remapping/", StringComparison.Ordinal)
            && !name.StartsWith("src/Sluice.Remapping/Vtd/", StringComparison.Ordinal)
            && name != "src/Sluice.Remapping/UnitCatalogue.cs"),
        static path => Assert.DoesNotMatch(KindOfUnit(), File.ReadAllText(path)));

    [Fact]
    public void FilesAndLinesStayShort() => Assert.All(Repository.AllCode, static path =>
    {
        string[] lines = File.ReadAllLines(path);
        Assert.True(
            lines.Length <= LongestFile,
            $"{Repository.Relative(path)} has {lines.Length} lines, more than {LongestFile}");
        int longest = Array.FindIndex(lines, static line => line.Length > LongestLine);
        Assert.True(longest < 0, $"{Repository.Relative(path)}({longest + 1}) is longer than {LongestLine} columns");
    });

    [Fact]
    public void VersionsArePinnedInOneFile()
    {
        foreach (string project in Repository.Projects)
        {
            foreach (XElement reference in XDocument.Load(project).Descendants("PackageReference"))
            {
                Assert.True(
                    reference.Attribute("Version") is null,
                    $"{Repository.Relative(project)} pins a version of its own");
            }
        }
        XDocument central = XDocument.Load(Path.Combine(Repository.Root, "Directory.Packages.props"));
        Assert.All(central.Descendants("PackageVersion"), static package =>
            Assert.Matches(@"^\d+\.\d+\.\d+$", package.Attribute("Version")!.Value));
    }

    [Fact]
    public void NothingIsLeftUnfinishedInSource() =>
        Assert.All(Repository.Sources, static path => Assert.DoesNotMatch(UnfinishedMark(), File.ReadAllText(path)));

    // Every file of the checkout. Seen failing: a folder of this machine named in ./test.
    [Fact]
    public void NothingNamesAPackageHostOrAWorkplace() => Assert.All(
        Repository.Find(".", "*").Where(static path => new FileInfo(path).Length < 1 << 20),
        static path => Assert.DoesNotMatch(Workplace(), File.ReadAllText(path)));

    [Fact]
    public void NamespacesFollowTheProject() => Assert.All(Repository.Sources, static path =>
    {
        string project = Repository.Relative(path).Split('/')[1];
        Match declared = NamespaceLine().Match(File.ReadAllText(path));
        if (declared.Success)
        {
            string name = declared.Groups[1].Value;
            Assert.True(
                name == project || name.StartsWith(project + ".", StringComparison.Ordinal),
                $"{Repository.Relative(path)} declares {name}");
        }
    });

    [Fact]
    public void LinksInDocumentsResolve()
    {
        IEnumerable<string> documents = Repository.Find("docs", "*.md")
            .Concat(Directory.EnumerateFiles(Repository.Root, "*.md"));
        foreach (string document in documents)
        {
            foreach (Match link in MarkdownLink().Matches(File.ReadAllText(document)))
            {
                string target = link.Groups[1].Value.Split('#')[0];
                if (target.Length == 0 || target.Contains("://", StringComparison.Ordinal)) { continue; }
                string path = Path.Combine(Path.GetDirectoryName(document)!, target);
                Assert.True(
                    File.Exists(path) || Directory.Exists(path),
                    $"{Repository.Relative(document)} links to {target}, which is not there");
            }
        }
    }

    private static string WithoutComments(string code) => Comment().Replace(code, "");

    [GeneratedRegex("0xCF[8C]", RegexOptions.IgnoreCase)]
    private static partial Regex ConfigurationPort();

    [GeneratedRegex("0xFEE[0F]?_?(0000|F_FFFF|FFFFF)", RegexOptions.IgnoreCase)]
    private static partial Regex InterruptWindow();

    [GeneratedRegex(@"\bunsafe\b|\bUnsafe\.")]
    private static partial Regex UnsafeWord();

    [GeneratedRegex(@"//[^\n]*")]
    private static partial Regex Comment();

    [GeneratedRegex("Vtd|VT-d|DMAR|ContextEntry|RootEntry|MsiMessage|FEE0_?0000", RegexOptions.IgnoreCase)]
    private static partial Regex KindOfUnit();

    [GeneratedRegex(@"\bTODO\b|\bFIXME\b|NotImplementedException")]
    private static partial Regex UnfinishedMark();

    // Written apart so that this file does not match itself.
    [GeneratedRegex("/" + "work/|api\\." + "nuget|registry\\." + "npmjs|deb\\." + "debian\\.org")]
    private static partial Regex Workplace();

    [GeneratedRegex(@"^namespace ([\w.]+);", RegexOptions.Multiline)]
    private static partial Regex NamespaceLine();

    [GeneratedRegex(@"\]\(([^)\s]+)\)")]
    private static partial Regex MarkdownLink();
}
