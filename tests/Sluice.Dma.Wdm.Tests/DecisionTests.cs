using System.Reflection;
using System.Text.RegularExpressions;

namespace Sluice.Dma.Wdm.Tests;

/// <summary>The decisions of ADR 0008 that no numbered test shows, and the documents against the code.</summary>
public sealed partial class DecisionTests
{
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void D06_ElementsCarryLogicalAddresses(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(8192);
        Mdl mdl = lab.Buffer(8192);
        ScatterGatherList list = lab.List(adapter, mdl, 0, 8192, true);
        bool physical = mdl.Pages.Contains(new PhysicalAddress(list[0].Address.Value));
        Assert.Equal(backend == "identity", physical);
        Assert.Equal(typeof(LogicalAddress), list[0].Address.GetType());
        lab.Put(adapter, list, true);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [InlineData(DmaWidth.Width8Bits, 1)]
    [InlineData(DmaWidth.Width16Bits, 2)]
    [InlineData(DmaWidth.Width32Bits, 4)]
    [InlineData(DmaWidth.Width64Bits, 8)]
    public void D07_AlignmentIsInBytes(DmaWidth width, int bytes)
    {
        using Lab lab = new("remapping", makeController: static p => new FifoDmaController(p, Lab.Slot, 1));
        WdmAdapter adapter = lab.Get(new WdmDeviceDescription { Version = 3, MaximumLength = 64, DmaWidth = width });
        Assert.Equal(bytes, adapter.GetDmaAlignment());
        adapter.PutDmaAdapter();
    }

    // Seen failing: a list that failed while it waited forgotten.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void D09_AListThatWaitsWhenTheAdapterEndsIsCalledBackEmpty(string backend)
    {
        using Lab lab = new(backend, registers: 2);
        WdmAdapter adapter = lab.Get(4096);
        Mdl mdl = lab.Buffer(8192);
        MapRegisterBase held = ChannelTests.Granted(lab, adapter, 2);
        Assert.NotNull(held);
        List<ScatterGatherList> lists = [];
        Assert.Equal(NtStatus.Success, lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), 8192, (_, _, list, _) => lists.Add(list), null, true)));
        Assert.Empty(lists);
        adapter.PutDmaAdapter();
        Assert.Equal(0, Assert.Single(lists).NumberOfElements);
        lab.Put(adapter, lists[0], true);
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void D10_AChannelThatWaitsWhenTheAdapterEndsIsNotCalledBack(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096);
        WdmDeviceObject second = new(Lab.Slot, "second");
        lab.AtDispatch(() =>
        {
            adapter.AllocateAdapterChannel(lab.Device, 1, (_, _, _, _) => IoAllocationAction.KeepObject, null);
            Assert.Equal(NtStatus.Success, adapter.AllocateAdapterChannel(second, 1, (_, _, _, _) =>
            {
                Assert.Fail("there is no channel");
                return IoAllocationAction.DeallocateObject;
            }, null));
        });
        adapter.PutDmaAdapter();
        Mdl mdl = lab.Buffer(1);
        Assert.Equal(NtStatus.InvalidDeviceRequest, lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), 1, (_, _, _, _) => Assert.Fail("ran"), null, true)));
    }

    [Fact]
    public void TheDocumentSaysWhatTheTableSays()
    {
        List<(int Number, string Name, string Version, string Level)> rows = [];
        foreach (string line in Document("docs/ddi.md"))
        {
            Match match = TableRow().Match(line);
            if (!match.Success) { continue; }
            string level = match.Groups[4].Value.Trim();
            foreach (Match name in FunctionName().Matches(match.Groups[2].Value))
            {
                string own = name.Groups[2].Success ? name.Groups[2].Value : level;
                rows.Add((int.Parse(match.Groups[1].Value), name.Groups[1].Value, match.Groups[3].Value.Trim(), own));
            }
        }
        Assert.Equal(
            DdiTable.Rows.Skip(1).Select(static r =>
                (r.Number, r.Function.ToString(), Words(r.Version), Words(r.Rule))),
            rows.OrderBy(static r => (int)Enum.Parse<DdiFunction>(r.Name)));
    }

    [Theory]
    [InlineData("docs/ddi.md")]
    [InlineData("docs/adr/0008-ddi-contradictions.md")]
    public void EveryProofThatADocumentNamesIsATest(string document)
    {
        HashSet<string> tests = [.. typeof(DecisionTests).Assembly.GetTypes()
            .SelectMany(static t => t.GetMethods(BindingFlags.Public | BindingFlags.Instance))
            .Where(static m => m.IsDefined(typeof(FactAttribute)))
            .Select(static m => m.Name)];
        string[] named =
            [.. Document(document).SelectMany(static l => TestName().Matches(l)).Select(static m => m.Value)];
        Assert.True(named.Length > 10);
        Assert.All(named, name => Assert.Contains(name, tests));
    }

    [Fact]
    public void EveryNumberedContractTestIsThere()
    {
        string[] names = [.. typeof(DecisionTests).Assembly.GetTypes()
            .SelectMany(static t => t.GetMethods()).Select(static m => m.Name)];
        Assert.All(Enumerable.Range(1, 23), number =>
            Assert.Contains(names, name => name.StartsWith($"T{number:00}_", StringComparison.Ordinal)));
        Assert.True(names.Count(static n => n.StartsWith("ReactOs_", StringComparison.Ordinal)) >= 11);
    }

    // Seen failing: T18's leak on identity alone.
    [Fact]
    public void EveryNumberedContractTestRunsOnEveryBackend()
    {
        HashSet<string> without = [.. ExceptionOf().Matches(string.Join(' ', Document("docs/ddi.md")))
            .Select(static m => m.Groups[1].Value)];
        foreach (MethodInfo test in typeof(DecisionTests).Assembly.GetTypes().SelectMany(static t => t.GetMethods())
            .Where(static m => NumberedTest().IsMatch(m.Name) && !m.IsStatic))
        {
            if (without.Remove(test.Name)) { continue; }
            MemberDataAttribute data = Assert.Single(test.GetCustomAttributes<MemberDataAttribute>());
            Type owner = data.MemberType ?? test.DeclaringType!;
            IEnumerable<ITheoryDataRow> rows =
                (IEnumerable<ITheoryDataRow>)owner.GetProperty(data.MemberName)!.GetValue(null)!;
            HashSet<string> backends = [.. rows.Select(static r => (string)r.GetData()[0]!)];
            Assert.True(backends.IsSupersetOf(Backend.Names), test.Name);
        }
        Assert.Empty(without);
        string[] numbers = [.. Document("docs/ddi.md").Select(static l => BackendRow().Match(l))
            .Where(static m => m.Success).Select(static m => m.Groups[1].Value)];
        Assert.Equal(Enumerable.Range(1, 23).Select(static n => $"T{n:00}"), numbers);
    }

    private static string[] Document(string path) => File.ReadAllLines(CheckoutFolder.At(path));

    private static string Words(DdiVersion version) => version switch
    {
        DdiVersion.Windows10 => "Windows 10",
        DdiVersion.Windows10Version1803 => "1803",
        DdiVersion.Server2022 => "Server 2022",
        _ => ((int)version).ToString(),
    };

    private static string Words(IrqlRule rule) => rule switch
    {
        IrqlRule.Passive => "P",
        IrqlRule.Dispatch => "D",
        IrqlRule.UpToDispatch => "≤D",
        _ => "any",
    };

    [GeneratedRegex(@"^\| (\d+) \| ([^|]+)\|([^|]+)\|([^|]+)\|")]
    private static partial Regex TableRow();

    [GeneratedRegex(@"([A-Z]\w+)(?: \((≤D)\))?")]
    private static partial Regex FunctionName();

    [GeneratedRegex(@"^T\d\d_")]
    private static partial Regex NumberedTest();

    [GeneratedRegex(@"^\| (T\d\d) [^|]*\|[^|]+\|[^|]+\|[^|]+\|$")]
    private static partial Regex BackendRow();

    // As the page says it: `name` has no back-end.
    [GeneratedRegex(@"`(\w+)` has no back-end")]
    private static partial Regex ExceptionOf();

    [GeneratedRegex(@"(?:[TD]\d\d|ReactOs)_\w+")]
    private static partial Regex TestName();
}
