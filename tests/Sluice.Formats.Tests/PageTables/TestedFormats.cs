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
        ["vtd-ss, 4 KiB pages only"] = () => Make<VtdSecondStage>(new(default, 3, 46, 0b001),
            NaiveWalks.VtdSecondStage(4)),
        ["x86, 4 levels"] = () => Make<X86>(new(default, 3), NaiveWalks.X86(4)),
        ["x86, 5 levels"] = () => Make<X86>(new(default, 4), NaiveWalks.X86(5)),
        ["amdv1, 1 level"] = () => Make<AmdV1>(new(default, 0), NaiveWalks.AmdV1(1)),
        ["amdv1, 3 levels"] = () => Make<AmdV1>(new(default, 2), NaiveWalks.AmdV1(3)),
        ["amdv1, 4 levels"] = () => Make<AmdV1>(new(default, 3), NaiveWalks.AmdV1(4)),
        ["amdv1, 6 levels"] = () => Make<AmdV1>(new(default, 5), NaiveWalks.AmdV1(6)),
        ["riscv-sv39"] = () => Make<RiscV>(new(default, 2, 56), NaiveWalks.RiscV(3, false)),
        ["riscv-sv48"] = () => Make<RiscV>(new(default, 3, 56), NaiveWalks.RiscV(4, false)),
        ["riscv-sv57"] = () => Make<RiscV>(new(default, 4, 56), NaiveWalks.RiscV(5, false)),
        ["riscv-sv39x4"] = () => Make<RiscV>(new(default, 2, 56) { InputBits = 41 }, NaiveWalks.RiscV(3, true)),
        ["riscv-sv48x4"] = () => Make<RiscV>(new(default, 3, 56) { InputBits = 50 }, NaiveWalks.RiscV(4, true)),
        ["riscv-sv57x4"] = () => Make<RiscV>(new(default, 4, 56) { InputBits = 59 }, NaiveWalks.RiscV(5, true)),
        ["arm-4k, stage 1, 48 bits"] = () => Arm1<Arm4K>(48, NaiveWalks.Arm(4, 1, 0, 48)),
        ["arm-4k, stage 1, 36 bits"] = () => Arm1<Arm4K>(36, NaiveWalks.Arm(4, 1, 1, 36)),
        ["arm-4k, stage 2, 40 bits"] = () => Arm2<Arm4K>(40, NaiveWalks.Arm(4, 2, 1, 40)),
        ["arm-4k, stage 2, 42 bits"] = () => Arm2<Arm4K>(42, NaiveWalks.Arm(4, 2, 1, 42)),
        ["arm-16k, stage 1, 48 bits"] = () => Arm1<Arm16K>(48, NaiveWalks.Arm(16, 1, 0, 48)),
        ["arm-16k, stage 1, 47 bits"] = () => Arm1<Arm16K>(47, NaiveWalks.Arm(16, 1, 1, 47)),
        ["arm-16k, stage 2, 40 bits"] = () => Arm2<Arm16K>(40, NaiveWalks.Arm(16, 2, 2, 40)),
        ["arm-64k, stage 1, 48 bits"] = () => Arm1<Arm64K>(48, NaiveWalks.Arm(64, 1, 1, 48)),
        ["arm-64k, stage 1, 52 bits"] = () => Arm1<Arm64K>(52, NaiveWalks.Arm(64, 1, 1, 52)),
        ["arm-64k, stage 2, 46 bits"] = () => Arm2<Arm64K>(46, NaiveWalks.Arm(64, 2, 2, 46)),
        ["arm-4k, stage 1, dirty"] = () => Make<Arm<Arm4K, ArmStage1Dirty>>(Arm<Arm4K, ArmStage1Dirty>.Shape(48),
            NaiveWalks.Arm(4, 1, 0, 48, hardwareDirty: true)),
        ["arm-16k, stage 2, dirty"] = () => Make<Arm<Arm16K, ArmStage2Dirty>>(Arm<Arm16K, ArmStage2Dirty>.Shape(40),
            NaiveWalks.Arm(16, 2, 2, 40, hardwareDirty: true)),
        ["dart-t8020"] = () => Make<Dart<DartT8020>>(new(default, 1, 36), NaiveWalks.Dart(true, 2)),
        ["dart-t6000"] = () => Make<Dart<DartT6000>>(new(default, 1, 42), NaiveWalks.Dart(false, 2)),
        ["dart-t8110, 3 levels"] = () => Make<Dart<DartT8110>>(new(default, 2, 42), NaiveWalks.Dart(false, 3)),
        ["dart-u3"] = () => Make<DartU3>(new(default, 0) { Entries = 5001 }, NaiveWalks.DartU3(5001)),
        ["gart"] = () => Make<Gart>(new(default, 0) { Entries = 8192, Base = new(0xD000_0000) },
            NaiveWalks.Gart(0xD000_0000, 8192)),
        ["mock: 2 KiB pages, 7 index bits"] = () => Make<MockFormat>(new(default, 4), NaiveWalks.Mock(5)),
    };

    /// <summary>Names for <c>[MemberData]</c>.</summary>
    public static TheoryData<string> Names => [.. Rows.Keys];

    public static TestedTable Create(string name) => Rows[name]();

    private static TestedTable<Arm<TGranule, ArmStage1>> Arm1<TGranule>(int bits, NaiveWalk naive)
        where TGranule : struct, IArmGranule => Make<Arm<TGranule, ArmStage1>>(Arm<TGranule, ArmStage1>.Shape(bits),
            naive);

    private static TestedTable<Arm<TGranule, ArmStage2>> Arm2<TGranule>(int bits, NaiveWalk naive)
        where TGranule : struct, IArmGranule => Make<Arm<TGranule, ArmStage2>>(Arm<TGranule, ArmStage2>.Shape(bits),
            naive);

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
