namespace Sluice.Qemu.Tests.Devices;

/// <summary>A line of the table "NVMe and edu" in docs/differences.md, exactly as it shows in a transcript.</summary>
/// <param name="What">What was asked: a line's beginning.</param>
/// <param name="Theirs">Part of QEMU's answer.</param>
/// <param name="Ours">Part of ours.</param>
internal sealed record KnownDifference(string What, string Theirs, string Ours)
{
    private const string Refused = "type 1 code 00 retry 0", NoSuchQueue = "type 1 code 01 retry 0";
    private const string Field = "type 0 code 02 retry 0", Namespace = "type 0 code 0b retry 0";
    private const string MayRetry = "type 0 code 02 retry 1", Done = "type 0 code 00 retry 1";

    public static KnownDifference[] Control { get; } =
    [
        new("CAP: ", "0x4008200f0107ff", "0x4000200f0107ff"),
        new("CAP high: ", "0x400820", "0x400020"),
        new("CAP stays: ", "0x4008200f0107ff", "0x4000200f0107ff"),
        new("CSTS after enable with CC 463801: ", "0x1", "0x2"),
    ];

    public static KnownDifference[] Identity { get; } =
    [
        new("ELPE: ", "00", "03"), new("OACS: ", "2b01", "0000"), new("LPA: ", "07", "04"),
        new("NN: ", "00010000", "01000000"), new("ONCS: ", "5d07", "1d00"), new("SGLS: ", "01000800", "00000000"),
        new("NSFEAT: ", "34", "00"), new("NLBAF: ", "07", "00"), new("MC: ", "03", "00"), new("DPC: ", "1f", "00"),
        new("identify namespace 2: ", Done, Namespace), new("descriptors of 2: ", Field, Namespace),
        new("PRP1 at a byte: ", Done, "type 0 code 13 retry 0"),
    ];

    public static KnownDifference[] Queues { get; } =
    [
        new("SQ of CQ 0: ", Refused, NoSuchQueue), new("SQ of CQ 999: ", Refused, NoSuchQueue),
        new("delete CQ 0: ", Refused, NoSuchQueue), new("delete CQ 5: ", Refused, NoSuchQueue),
        new("delete CQ 999: ", Refused, NoSuchQueue), new("delete CQ 2 again: ", Refused, NoSuchQueue),
        new("get feature 1: ", "result 7", "result 3"), new("get default of feature 1: ", "result 7", "result 3"),
        new("get default of feature 6: ", "result 0", "result 1"), new("write cache default: ", "result 0", "result 1"),
        new("get feature 9: ", "result 10000", "result 0"), new("vector 0: ", "result 10000", "result 0"),
        new("get default of feature 9: ", "result 10000", "result 0"),
    ];

    public static KnownDifference[] Commands { get; } =
    [
        .. new[] { 0, 1, 2, 5, 8, 9 }.Select(static o =>
            new KnownDifference($"opcode {o} on namespace 2: ", Field, Namespace)),
        .. new[] { 1, 2, 5 }.Select(static o => new KnownDifference($"{o} fused: ", MayRetry, Field)),
        .. new[] { 1, 2, 5 }.Select(static o =>
            new KnownDifference($"{o} scattered: ", "type 0 code 0f retry 0", Field)),
        new("fused admin command: ", MayRetry, Field),
        new("read to a byte: ", Done, "type 0 code 13 retry 0"),
        new("read by a list at a dword: ", Done, "type 0 code 13 retry 0"),
        new("read to nowhere: ", Done, "type 0 code 04 retry 1"),
        new("write from nowhere: ", Done, "type 0 code 04 retry 1"),
        new("one past the end: ", Done, "type 0 code 80 retry 0"),
        new("past the end, hint: ", Done, "type 0 code 80 retry 0"),
        new("log of nothing: ", Field, "type 1 code 09 retry 0"),
    ];

    /// <summary>What random programs may meet: the names that their steps give to answers.</summary>
    public static KnownDifference[] Programs { get; } =
    [
        new("namespace: ", Field, Namespace), new("identify 0: ", Done, Namespace),
        new("identify 3: ", Field, Namespace), new("form: ", MayRetry, Field),
        new("form: ", "type 0 code 0f retry 0", Field), new("delete CQ: ", Refused, NoSuchQueue),
        new("create SQ: ", Refused, NoSuchQueue), new("threshold of no sensor: ", Done, Field),
    ];

    public static KnownDifference[] Features { get; } =
    [
        new("events on while hot: ", "command 103 slot 2 phase True result 0 wires raise 22, lower 22",
            "command 102 slot 2 phase True result 20101 wires raise 22,"),
        new("first event: ", "command 102 slot 3 phase True result 10000 wires raise 22, lower 22",
            "command 103 slot 3 phase True result 0 wires, lower 22"),
        new("threshold after a reset: ", "result 100", "result 157"),
        new("write cache after a reset: ", "result 0", "result 1"),
        new("events after a reset: ", "result 2", "result 0"),
    ];

    public static KnownDifference[] StuckPin { get; } =
    [
        new("after a reset: ", "reset: ", "reset:  lower 22"), new("taken: ", "taken: ", "taken:  lower 22"),
        new("after it: ", "wires,", "wires raise 22,"),
    ];

    /// <summary>Whether this, and nothing else, is why the two lines differ.</summary>
    public bool Explains(string theirs, string ours) =>
        theirs.StartsWith(What, StringComparison.Ordinal)
        && theirs.Contains(Theirs, StringComparison.Ordinal)
        && ours == theirs.Replace(Theirs, Ours, StringComparison.Ordinal);
}
