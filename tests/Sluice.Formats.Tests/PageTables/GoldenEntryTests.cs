using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Raw words of every entry type, put together by hand from the bit tables of the specifications (and of Linux, whose
/// drivers write the same words where it is named). Encoders must give them, decoders must read them.
/// </summary>
public sealed class GoldenEntryTests
{
    private const DmaAccess R = DmaAccess.Read, W = DmaAccess.Write, RW = DmaAccess.ReadWrite;

    /// <summary>
    /// Columns: format, level, size, physical, access, word. Bits after ≡ in the comment are the word's, highest first.
    /// </summary>
    public static TheoryData<string, int, int, ulong, DmaAccess, ulong> Leaves => new()
    {
        // VT-d second stage: address | PS 7 | W 1 | R 0.
        { "vtd-ss", 0, 12, 0x0000_0001_2345_6000, RW, 0x0000_0001_2345_6003 },
        { "vtd-ss", 0, 12, 0x000F_FFFF_FFFF_F000, W, 0x000F_FFFF_FFFF_F002 },
        { "vtd-ss", 1, 21, 0x0000_0000_4020_0000, R, 0x0000_0000_4020_0081 },
        { "vtd-ss", 2, 30, 0x0000_0080_4000_0000, RW, 0x0000_0080_4000_0083 },

        // x86: PS 7, US 2, RW 1, P 0. Write alone cannot be said.
        { "x86", 0, 12, 0x0000_0001_2345_6000, RW, 0x0000_0001_2345_6007 },
        { "x86", 0, 12, 0x000F_FFFF_FFFF_F000, R, 0x000F_FFFF_FFFF_F005 },
        { "x86", 1, 21, 0x0000_0000_4020_0000, R, 0x0000_0000_4020_0085 },
        { "x86", 2, 30, 0x0000_0080_4000_0000, RW, 0x0000_0080_4000_0087 },

        // AMD version 1: IW 62, IR 61, next level 11:9, PR 0. Sizes that are not a level's: next level 7, trailing ones
        // in the address.
        { "amdv1", 0, 12, 0x0000_0001_2345_6000, RW, 0x6000_0001_2345_6001 },
        { "amdv1", 0, 12, 0x0000_0001_2345_6000, R, 0x2000_0001_2345_6001 },
        { "amdv1", 1, 21, 0x0000_0000_4020_0000, W, 0x4000_0000_4020_0001 },
        { "amdv1", 2, 30, 0x0000_0080_4000_0000, RW, 0x6000_0080_4000_0001 },
        { "amdv1", 0, 13, 0x0000_0001_2345_6000, RW, 0x6000_0001_2345_6E01 },
        { "amdv1", 0, 14, 0x0000_0001_2345_4000, RW, 0x6000_0001_2345_5E01 },
        { "amdv1", 0, 16, 0x0000_0001_2345_0000, R, 0x2000_0001_2345_7E01 },
        { "amdv1", 1, 22, 0x0000_0001_2340_0000, RW, 0x6000_0001_235F_FE01 },
        { "amdv1", 3, 40, 0x0000_0100_0000_0000, RW, 0x6000_017F_FFFF_FE01 },

        // RISC-V: PPN 53:10, D 7, A 6, U 4, W 2, R 1, V 0. 64 KiB: N 63 and PPN[3:0] = 1000.
        { "riscv-sv48", 0, 12, 0x0000_0001_2345_6000, RW, 0x0000_0000_48D1_58D7 },
        { "riscv-sv48", 0, 12, 0x0000_0001_2345_6000, R, 0x0000_0000_48D1_5853 },
        { "riscv-sv48", 0, 12, 0x00FF_FFFF_FFFF_F000, R, 0x003F_FFFF_FFFF_FC53 },
        { "riscv-sv48", 1, 21, 0x0000_0000_4020_0000, RW, 0x0000_0000_1008_00D7 },
        { "riscv-sv48", 3, 39, 0x0000_0080_0000_0000, RW, 0x0000_0020_0000_00D7 },
        { "riscv-sv48", 0, 16, 0x0000_0001_2345_0000, RW, 0x8000_0000_48D1_60D7 },

        // Arm stage 1: nG 11, AF 10, SH 9:8 = 3, AP[2] 7 read-only, AP[1] 6, type 1:0 = 3 page, 1 block; contiguous 52.
        { "arm-4k/1", 0, 12, 0x0000_0001_2345_6000, RW, 0x0000_0001_2345_6F43 },
        { "arm-4k/1", 0, 12, 0x0000_0001_2345_6000, R, 0x0000_0001_2345_6FC3 },
        { "arm-4k/1", 1, 21, 0x0000_0000_4020_0000, RW, 0x0000_0000_4020_0F41 },
        { "arm-4k/1", 2, 30, 0x0000_0080_4000_0000, R, 0x0000_0080_4000_0FC1 },
        { "arm-4k/1", 0, 16, 0x0000_0001_2345_0000, RW, 0x0010_0001_2345_0F43 },
        { "arm-16k/1", 1, 25, 0x0000_0000_4200_0000, RW, 0x0000_0000_4200_0F41 },
        { "arm-64k/1", 0, 16, 0x000A_0001_2345_0000, RW, 0x0000_0001_2345_AF43 },

        // Arm stage 2: AF 10, SH 9:8 = 3, W 7, R 6, MemAttr 5:2 = F.
        { "arm-4k/2", 0, 12, 0x0000_0001_2345_6000, RW, 0x0000_0001_2345_67FF },
        { "arm-4k/2", 0, 12, 0x0000_0001_2345_6000, W, 0x0000_0001_2345_67BF },
        { "arm-4k/2", 1, 21, 0x0000_0000_4020_0000, R, 0x0000_0000_4020_077D },

        // DART: sub-page end 51:40 = FFF; first layout NR 8, NW 7, SD 1; second PA[41:14] in 37:10, NR 3, NW 2; V 0.
        { "dart-t8020", 0, 14, 0x0000_0008_1234_4000, RW, 0x000F_FF08_1234_4003 },
        { "dart-t8020", 0, 14, 0x0000_0008_1234_4000, R, 0x000F_FF08_1234_4083 },
        { "dart-t8020", 0, 14, 0x0000_0008_1234_4000, W, 0x000F_FF08_1234_4103 },
        { "dart-t6000", 0, 14, 0x0000_0208_1234_4000, RW, 0x000F_FF20_8123_4401 },
        { "dart-t8110", 0, 14, 0x0000_0208_1234_4000, R, 0x000F_FF20_8123_4405 },
        { "dart-t8110", 0, 14, 0x0000_03FF_FFFF_C000, W, 0x000F_FF3F_FFFF_FC09 },

        // U3: V 31, page 23:0. GART: PA[31:12], PA[39:32] in 11:4, coherent 1, V 0.
        { "dart-u3", 0, 12, 0x0000_000F_2345_6000, RW, 0x0000_0000_80F2_3456 },
        { "gart", 0, 12, 0x0000_00A9_2345_6000, RW, 0x0000_0000_2345_6A93 },
    };

    /// <summary>Columns: format, level of the entry, next table, word.</summary>
    public static TheoryData<string, int, ulong, ulong> Tables => new()
    {
        { "vtd-ss", 3, 0x0000_0001_2345_6000, 0x0000_0001_2345_6003 },
        { "x86", 3, 0x0000_0001_2345_6000, 0x0000_0001_2345_6007 },
        { "amdv1", 1, 0x0000_0001_2345_6000, 0x6000_0001_2345_6201 },
        { "amdv1", 5, 0x0000_0001_2345_6000, 0x6000_0001_2345_6A01 },
        { "riscv-sv48", 2, 0x0000_0001_2345_6000, 0x0000_0000_48D1_5801 },
        { "arm-4k/1", 2, 0x0000_0001_2345_6000, 0x0000_0001_2345_6003 },
        { "arm-4k/2", 1, 0x0000_0001_2345_6000, 0x0000_0001_2345_6003 },
        { "arm-64k/1", 1, 0x000A_0001_2345_0000, 0x0000_0001_2345_A003 },
        { "dart-t8020", 1, 0x0000_0008_1234_4000, 0x0000_0008_1234_4001 },
        { "dart-t6000", 1, 0x0000_0208_1234_4000, 0x0000_0020_8123_4401 },
    };

    /// <summary>Words with something wrong. Columns: format, level, word, what a walk says of it.</summary>
    public static TheoryData<string, int, ulong, WalkStatus> Refused => new()
    {
        { "vtd-ss", 0, 0x0000_0001_2345_6000, WalkStatus.NotPresent },
        { "vtd-ss", 1, 0x0000_0000_4020_1083, WalkStatus.ReservedBits }, // 2 MiB, askew
        { "vtd-ss", 3, 0x0000_0080_0000_0083, WalkStatus.ReservedBits }, // bit 7 at the fourth level
        { "x86", 0, 0x0000_0001_2345_6003, WalkStatus.NotPresent }, // a supervisor's page
        { "x86", 1, 0x0000_0000_4020_1087, WalkStatus.ReservedBits },
        { "x86", 3, 0x0000_0080_0000_0087, WalkStatus.ReservedBits },
        { "amdv1", 0, 0x0000_0001_2345_6001, WalkStatus.NotPresent }, // neither IR nor IW
        { "amdv1", 0, 0x6000_0001_2345_6201, WalkStatus.ReservedBits }, // next level not below
        { "amdv1", 1, 0x6000_0000_4020_1001, WalkStatus.ReservedBits },
        { "amdv1", 1, 0x6000_0001_2345_7E01, WalkStatus.ReservedBits }, // 64 KiB in a table of 2 MiB
        { "riscv-sv48", 0, 0x0000_0000_48D1_58D5, WalkStatus.ReservedBits }, // W without R
        { "riscv-sv48", 0, 0x0040_0000_48D1_58D7, WalkStatus.ReservedBits }, // bit 54
        { "riscv-sv48", 0, 0x8000_0000_48D1_5CD7, WalkStatus.ReservedBits }, // N with PPN[3:0] = 0111
        { "riscv-sv48", 1, 0x8000_0000_1008_20D7, WalkStatus.ReservedBits }, // N above level 0
        { "riscv-sv48", 1, 0x0000_0000_1008_04D7, WalkStatus.ReservedBits }, // 2 MiB, askew
        { "riscv-sv48", 0, 0x0000_0000_48D1_5801, WalkStatus.NotPresent }, // a pointer at the last level
        { "riscv-sv48", 0, 0x0000_0000_48D1_5859, WalkStatus.NotPresent }, // execute only
        { "arm-4k/1", 0, 0x0000_0001_2345_6F41, WalkStatus.NotPresent }, // type 1 at the last level
        { "arm-4k/1", 3, 0x0000_0080_0000_0F41, WalkStatus.NotPresent }, // a block at the first level
        { "arm-4k/1", 0, 0x0000_0001_2345_6F03, WalkStatus.NotPresent }, // privileged only
        { "arm-4k/1", 1, 0x0000_0000_4020_1F41, WalkStatus.ReservedBits },
        { "arm-4k/2", 0, 0x0000_0001_2345_673F, WalkStatus.NotPresent }, // neither R nor W
        { "dart-t8020", 0, 0x000F_FF08_1234_4183, WalkStatus.NotPresent }, // neither read nor write
        { "dart-u3", 0, 0x0000_0000_00F2_3456, WalkStatus.NotPresent },
        { "gart", 0, 0x0000_0000_2345_6A92, WalkStatus.NotPresent },
    };

    [Theory]
    [MemberData(nameof(Leaves))]
    public void LeavesAreTheseWords(string format, int level, int size, ulong physical, DmaAccess access, ulong word) =>
        With(format).CheckLeaf(level, size, new(physical), access, word);

    [Theory]
    [MemberData(nameof(Tables))]
    public void TableEntriesAreTheseWords(string format, int level, ulong table, ulong word) =>
        With(format).CheckTable(level, new(table), word);

    [Theory]
    [MemberData(nameof(Refused))]
    public void WrongWordsAreRefused(string format, int level, ulong word, WalkStatus status) =>
        With(format).CheckRefused(level, word, status);

    private static Checker With(string format) => format switch
    {
        "vtd-ss" => new Checker<VtdSecondStage>(),
        "x86" => new Checker<X86>(),
        "amdv1" => new Checker<AmdV1>(),
        "riscv-sv48" => new Checker<RiscV>(),
        "arm-4k/1" => new Checker<Arm<Arm4K, ArmStage1>>(),
        "arm-4k/2" => new Checker<Arm<Arm4K, ArmStage2>>(),
        "arm-16k/1" => new Checker<Arm<Arm16K, ArmStage1>>(),
        "arm-64k/1" => new Checker<Arm<Arm64K, ArmStage1>>(),
        "dart-t8020" => new Checker<Dart<DartT8020>>(),
        "dart-t6000" => new Checker<Dart<DartT6000>>(),
        "dart-t8110" => new Checker<Dart<DartT8110>>(),
        "dart-u3" => new Checker<DartU3>(),
        _ => new Checker<Gart>(),
    };

    private abstract class Checker
    {
        public abstract void CheckLeaf(int level, int size, PhysicalAddress physical, DmaAccess access, ulong word);

        public abstract void CheckTable(int level, PhysicalAddress table, ulong word);

        public abstract void CheckRefused(int level, ulong word, WalkStatus status);
    }

    private sealed class Checker<TFormat> : Checker
        where TFormat : struct, IPageTableFormat<TFormat>
    {
        private static readonly PageTableRoot Root = new(default, TFormat.MaximumTopLevel, TFormat.PhysicalAddressBits);

        public override void CheckLeaf(int level, int size, PhysicalAddress physical, DmaAccess access, ulong word)
        {
            Assert.Equal($"{word:X16}", $"{TFormat.Leaf(physical, access, level, size):X16}");
            Assert.True(TFormat.IsPresent(word) && TFormat.IsLeaf(word, level));
            Assert.False(TFormat.HasReservedBits(word, level, Root));
            Assert.Equal(physical, TFormat.Address(word, level));
            Assert.Equal(access, TFormat.Access(word, level, Root));
            Assert.Equal(size, TFormat.LeafSizeLog2(word, level));
        }

        public override void CheckTable(int level, PhysicalAddress table, ulong word)
        {
            Assert.Equal($"{word:X16}", $"{TFormat.Table(table, level):X16}");
            Assert.True(TFormat.IsPresent(word) && !TFormat.IsLeaf(word, level));
            Assert.False(TFormat.HasReservedBits(word, level, Root));
            Assert.Equal(table, TFormat.Address(word, level));
            Assert.Equal(RW, TFormat.Access(word, level, Root));
            Assert.Equal(level - 1, TFormat.NextLevel(word, level));
        }

        public override void CheckRefused(int level, ulong word, WalkStatus status)
        {
            bool isReserved = TFormat.IsPresent(word) && TFormat.HasReservedBits(word, level, Root);
            Assert.Equal(status == WalkStatus.ReservedBits, isReserved);
            if (!isReserved) { Assert.Equal(DmaAccess.None, TFormat.Access(word, level, Root)); }
        }
    }
}
