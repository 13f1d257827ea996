using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>The one list: a format added here is under every property test.</summary>
public static class TestedFormats
{
    private static readonly Dictionary<string, Func<TestedTable>> Rows = new()
    {
        ["vtd-ss, 3 levels"] = () => Make<VtdSecondStage>(new(default, 2), NaiveWalks.VtdSecondStage(3)),
        ["vtd-ss, 4 levels"] = () => Make<VtdSecondStage>(new(default, 3), NaiveWalks.VtdSecondStage(4)),
        ["vtd-ss, 5 levels"] = () => Make<VtdSecondStage>(new(default, 4), NaiveWalks.VtdSecondStage(5)),
        ["vtd-ss, 4 KiB pages only"] = () => Make<VtdSecondStage>(new(default, 3, 46, 0b001), NaiveWalks.VtdSecondStage(4)),
    };

    /// <summary>Names for <c>[MemberData]</c>.</summary>
    public static TheoryData<string> Names => [.. Rows.Keys];

    public static TestedTable Create(string name) => Rows[name]();

    private static TestedTable<TFormat> Make<TFormat>(PageTableRoot shape, NaiveWalk naive)
        where TFormat : struct, IPageTableFormat<TFormat>
    {
        if (TFormat.IsFlat)
        {
            ulong bytes = shape.Entries << TFormat.GranuleLog2;
            return new(shape) { Naive = naive, Spaces = [LogicalRange.FromLength(shape.Base, bytes)] };
        }
        int bits = PageTable<TFormat>.InputBits(shape);
        ulong last = ulong.MaxValue >> (64 - bits);
        IReadOnlyList<LogicalRange> spaces = TFormat.SignExtends(shape)
            ? [new(new(0), new(last >> 1)), new(new(~(last >> 1)), new(ulong.MaxValue))]
            : [new(new(0), new(last))];
        return new(shape) { Naive = naive, Spaces = spaces };
    }
}
