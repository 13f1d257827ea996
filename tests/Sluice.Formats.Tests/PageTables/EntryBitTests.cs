using Sluice.Formats.PageTables;

namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// What each bit of an entry means, by turning over one after another. The masks are written by hand from the
/// specifications' pictures: bits that a decoder wrongly looks at, or wrongly does not, show at once.
/// </summary>
public sealed class EntryBitTests
{
    /// <summary>
    /// Columns: row of <see cref="Of"/>, level, word; then the bits that decide whether it has reserved bits set,
    /// whether it is present, whether it is a leaf, what it grants, its address, its size.
    /// </summary>
    public static TheoryData<string, int, ulong, Masks> Entries => new()
    {
        // 46-bit hardware: address bits 51:46 are reserved. TM 62; SNP 11 in tables; bits of the page's inside.
        { "vtd-ss", 0, 0x0000_0001_2345_6001, new(0x400F_C000_0000_0000, 1, 0, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss", 1, 0x0000_0000_4020_0082, new(0x400F_C000_001F_F000, 2, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss", 2, 0x0000_0080_4000_0083, new(0x400F_C000_3FFF_F000, 0, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss", 1, 0x0000_0000_4020_0003, new(0x400F_C000_0000_0800, 0, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss", 2, 0x0000_0000_4020_0003, new(0x400F_C000_0000_0880, 0, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss", 3, 0x0000_0080_0000_0003, new(0x400F_C000_0000_0880, 0, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss, no snoop", 0, 0x0000_0001_2345_6003,
            new(0x400F_C000_0000_0800, 0, 0, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss, no snoop", 1, 0x0000_0000_4020_0083,
            new(0x400F_C000_001F_F800, 0, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },
        // Leaves that the hardware does not have: clearing PS makes them tables, and good.
        { "vtd-ss, 4 KiB", 1, 0x0000_0000_4020_0083, new(0x80, 0, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "vtd-ss, all leaves", 3, 0x0000_0080_0000_0083, new(0x80, 0, 0x80, 3, 0x000F_FFFF_FFFF_F000, 0) },

        { "x86", 0, 0x0000_0001_2345_6007, new(0x000F_C000_0000_0000, 1, 0, 7, 0x000F_FFFF_FFFF_F000, 0) },
        { "x86", 1, 0x0000_0000_4020_0087, new(0x000F_C000_001F_F000, 1, 0x80, 7, 0x000F_FFFF_FFFF_F000, 0) },
        { "x86", 2, 0x0000_0080_4000_0087, new(0x000F_C000_3FFF_F000, 1, 0x80, 7, 0x000F_FFFF_FFFF_F000, 0) },
        { "x86", 1, 0x0000_0000_4020_0007, new(0x000F_C000_0000_0000, 1, 0x80, 7, 0x000F_FFFF_FFFF_F000, 0) },
        { "x86", 3, 0x0000_0080_0000_0007, new(0x000F_C000_0000_0080, 1, 0x80, 7, 0x000F_FFFF_FFFF_F000, 0) },
        { "x86, privileged", 0, 0x0000_0001_2345_6003,
            new(0x000F_C000_0000_0000, 1, 0, 3, 0x000F_FFFF_FFFF_F000, 0) },
        { "x86, 4 KiB", 1, 0x0000_0000_4020_0087, new(0x80, 1, 0x80, 7, 0x000F_FFFF_FFFF_F000, 0) },
        { "x86, all leaves", 3, 0x0000_0080_0000_0087, new(0x80, 1, 0x80, 7, 0x000F_FFFF_FFFF_F000, 0) },

        // Next level 11:9 must be below the entry's own, 0 and 7 are leaves; 7 takes its size from the address.
        { "amdv1", 0, 0x6000_0001_2345_6001,
            new(0x000F_C000_0000_0E00, 1, 0xE00, 0x6000_0000_0000_0001, 0x000F_FFFF_FFFF_F000, 0) },
        { "amdv1", 1, 0x6000_0000_4020_0001,
            new(0x000F_C000_001F_FC00, 1, 0xE00, 0x6000_0000_0000_0001, 0x000F_FFFF_FFFF_F000, 0) },
        { "amdv1", 0, 0x6000_0001_2345_5E01,
            new(0x000F_C000_0000_0E00, 1, 0xE00, 0x6000_0000_0000_0001, 0x000F_FFFF_FFFF_EE00, 0x3E00) },
        { "amdv1", 3, 0x6000_0001_2345_6601,
            new(0x000F_C000_0000_0800, 1, 0x800, 0x6000_0000_0000_0001, 0x000F_FFFF_FFFF_F000, 0x800) },
        // 2^50 bytes from 0 on: the ones that tell the size lie above the hardware's width and are no address.
        { "amdv1", 4, 0x6001_FFFF_FFFF_FE01,
            new(0x000C_FFFF_FFFF_FE00, 1, 0xE00, 0x6000_0000_0000_0001, 0x000C_FFFF_FFFF_FE00, 0x0003_FFFF_FFFF_FE00) },

        // 50-bit hardware: PPN bits 53:48 are reserved, and 58:54 always; R where W is; N where the size is not.
        { "riscv", 0, 0x0000_0000_48D1_58D7,
            new(0x87FF_0000_0000_0002, 1, 0, 0x17, 0x803F_FFFF_FFFF_FC00, 1UL << 63) },
        { "riscv", 0, 0x0000_0000_48D1_5853,
            new(0x87FF_0000_0000_0002, 1, 2, 0x17, 0x803F_FFFF_FFFF_FC00, 1UL << 63) },
        { "riscv", 0, 0x2000_0000_48D1_58D7,
            new(0xC7FF_0000_0000_0002, 1, 0, 0x17, 0x803F_FFFF_FFFF_FC00, 1UL << 63) },
        { "riscv", 0, 0x4000_0000_48D1_58D7,
            new(0xA7FF_0000_0000_0002, 1, 0, 0x17, 0x803F_FFFF_FFFF_FC00, 1UL << 63) },
        { "riscv", 0, 0x8000_0000_48D1_60D7,
            new(0x07FF_0000_0000_3C02, 1, 0, 0x17, 0x803F_FFFF_FFFF_C000, 1UL << 63) },
        { "riscv", 1, 0x0000_0000_1008_00D7,
            new(0x87FF_0000_0007_FC02, 1, 0, 0x17, 0x003F_FFFF_FFFF_FC00, 1UL << 63) },
        { "riscv", 2, 0x0000_0000_48D1_5801,
            new(0xE7FF_0000_0000_00DE, 1, 0xE, 0xF, 0x803F_FFFF_FFFF_FC00, 1UL << 63) },
        { "riscv, privileged", 0, 0x0000_0000_48D1_58C7,
            new(0x87FF_0000_0000_0002, 1, 0, 0x7, 0x803F_FFFF_FFFF_FC00, 1UL << 63) },
        { "riscv, second stage", 0, 0x0000_0000_48D1_58D7,
            new(0x87FF_0000_0000_0002, 1, 0, 0x17, 0x803F_FFFF_FFFF_FC00, 1UL << 63) },

        // 44-bit hardware: address bits 47:44 are reserved (64 KiB: 50 bits, PA 51:50 in 15:14).
        { "arm-4k/1", 0, 0x0000_0001_2345_6F43,
            new(0x0000_F000_0000_0000, 1, 0, 0xC3, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/1", 1, 0x0000_0000_4020_0F41,
            new(0x0000_F000_001F_F000, 1, 2, 0xC1, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/1", 3, 0x0000_0080_0000_0F41,
            new(0x0000_F07F_FFFF_F000, 1, 2, 0x2, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/1", 2, 0x0000_0001_2345_6003,
            new(0x0000_F000_0000_0002, 1, 2, 0x6000_0000_0000_0003, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/1, privileged", 2, 0x0000_0001_2345_6003,
            new(0x0000_F000_0000_0002, 1, 2, 0x4000_0000_0000_0001, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/1, privileged", 0, 0x0000_0001_2345_6F03,
            new(0x0000_F000_0000_0000, 1, 0, 0x83, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/2", 0, 0x0000_0001_2345_67FF,
            new(0x0000_F000_0000_0000, 1, 0, 0xC3, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/2", 1, 0x0000_0001_2345_6003,
            new(0x0000_F000_0000_0002, 1, 2, 0x3, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-16k/1", 1, 0x0000_0000_0200_0F41,
            new(0x0000_F000_01FF_C000, 1, 2, 0xC1, 0x0000_FFFF_FFFF_C000, 1UL << 52) },
        { "arm-64k/1", 0, 0x0000_0001_2345_2F43,
            new(0xC000, 1, 0, 0xC3, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-64k/1", 1, 0x0000_0000_2000_0F41,
            new(0x1FFF_C000, 1, 2, 0xC1, 0x0000_FFFF_FFFF_F000, 1UL << 52) },

        // DBM 51 lets write, whatever the permission that says "dirty".
        { "arm-4k/1, dirty", 0, 0x0008_0001_2345_6FC3,
            new(0x0000_F000_0000_0000, 1, 0, 0x0008_0000_0000_0043, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/1, dirty", 0, 0x0008_0001_2345_6F43,
            new(0x0000_F000_0000_0000, 1, 0, 0x43, 0x0000_FFFF_FFFF_F000, 1UL << 52) },
        { "arm-4k/2, dirty", 0, 0x0008_0001_2345_677F,
            new(0x0000_F000_0000_0000, 1, 0, 0x0008_0000_0000_0043, 0x0000_FFFF_FFFF_F000, 1UL << 52) },

        // 34-bit hardware, and the two address bits that a page of 16 KiB does not need.
        { "dart-t8020", 0, 0x000F_FF01_1234_4003, new(0xC_0000_3000, 1, 0, 0x181, 0xF_FFFF_F000, 0) },
        { "dart-t8020", 1, 0x0000_0001_1234_4001, new(0xC_0000_3000, 1, 0, 1, 0xF_FFFF_F000, 0) },
        // 40-bit hardware: PA 41:40 in 37:36.
        { "dart-t6000", 0, 0x000F_FF08_8123_4401, new(0x30_0000_0000, 1, 0, 0xD, 0x3F_FFFF_FC00, 0) },
        { "dart-t6000", 1, 0x0000_0008_8123_4401, new(0x30_0000_0000, 1, 0, 1, 0x3F_FFFF_FC00, 0) },
        // 34-bit hardware: PA 35:34 in 23:22.
        { "dart-u3", 0, 0x8012_3456, new(0xC0_0000, 1UL << 31, 0, 1UL << 31, 0xFF_FFFF, 0) },
        // 36-bit hardware: PA 39:36 in 11:8.
        { "gart", 0, 0x2345_6023, new(0xF00, 1, 0, 1, 0xFFFF_FFF0, 0) },
    };

    /// <summary>
    /// Columns: format, granule, index bits, highest top level, physical address bits, size of an entry, dirty bit,
    /// accessed bit, flags: b big-endian, f flat, s leaves span items, o items hold their own address, l skips levels.
    /// </summary>
    public static TheoryData<string, string, int, int, int, int, int, ulong, ulong, string> Constants => new()
    {
        { "vtd-ss", "vtd-ss", 12, 9, 4, 52, 3, 0x200, 0x100, "" },
        { "x86", "x86", 12, 9, 4, 52, 3, 0x40, 0x20, "" },
        { "amdv1", "amdv1", 12, 9, 5, 52, 3, 0x40, 0x20, "sl" },
        { "riscv", "riscv", 12, 9, 4, 56, 3, 0x80, 0x40, "s" },
        { "arm-4k/1", "arm-4k", 12, 9, 3, 48, 3, 0, 0x400, "so" },
        { "arm-4k/2", "arm-4k", 12, 9, 3, 48, 3, 0, 0x400, "so" },
        { "arm-16k/1", "arm-16k", 14, 11, 3, 48, 3, 0, 0x400, "so" },
        { "arm-64k/1", "arm-64k", 16, 13, 3, 52, 3, 0, 0x400, "so" },
        { "dart-t8020", "dart-t8020", 14, 11, 1, 36, 3, 0, 0, "" },
        { "dart-t6000", "dart-t6000", 14, 11, 1, 42, 3, 0, 0, "" },
        { "dart-t8110", "dart-t8110", 14, 11, 2, 42, 3, 0, 0, "" },
        { "dart-u3", "dart-u3", 12, 19, 0, 36, 2, 0, 0, "bf" },
        { "gart", "gart", 12, 19, 0, 40, 2, 0, 0, "f" },
    };

    /// <summary>Columns: format, top level, leaf levels of the hardware, sizes: bit n for 2^n bytes.</summary>
    public static TheoryData<string, int, uint, ulong> Sizes => new()
    {
        { "vtd-ss", 3, 0b111, 0x4020_1000 },
        { "vtd-ss", 3, 0b001, 0x1000 },
        { "vtd-ss", 3, 0b011, 0x20_1000 },
        { "vtd-ss", 3, 0b101, 0x4000_1000 },
        { "x86", 3, 0b111, 0x4020_1000 },
        { "x86", 3, 0b001, 0x1000 },
        { "x86", 3, 0b011, 0x20_1000 },
        { "x86", 3, 0b101, 0x4000_1000 },
        { "amdv1", 0, 0b111, 0x1F_F000 },
        { "amdv1", 1, 0b111, 0x1F_F000 },
        { "amdv1", 2, 0b111, 0x3FFF_F000 },
        { "amdv1", 3, 0b111, 0x7F_FFFF_F000 },
        { "amdv1", 4, 0b111, 0xFF7F_FFFF_F000 },
        { "amdv1", 5, 0b111, 0xF_FF7F_FFFF_F000 },
        { "riscv", 2, 0b111, 0x4021_1000 },
        { "riscv", 3, 0b111, 0x80_4021_1000 },
        { "riscv", 4, 0b111, 0x1_0080_4021_1000 },
        { "arm-4k/1", 1, 0b111, 0x0221_1000 },
        { "arm-4k/1", 3, 0b111, 0x4_4221_1000 },
        { "arm-16k/1", 3, 0b111, 0x4220_4000 },
        { "arm-64k/1", 2, 0b111, 0x4_2021_0000 },
        { "dart-t8020", 1, 0b111, 0x4000 },
        { "dart-u3", 0, 0b111, 0x1000 },
        { "gart", 0, 0b111, 0x1000 },
    };

    /// <summary>Columns: format, what read, write and both are granted as.</summary>
    public static TheoryData<string, DmaAccess, DmaAccess, DmaAccess> Grants => new()
    {
        { "vtd-ss", DmaAccess.Read, DmaAccess.Write, DmaAccess.ReadWrite },
        { "x86", DmaAccess.Read, DmaAccess.ReadWrite, DmaAccess.ReadWrite },
        { "amdv1", DmaAccess.Read, DmaAccess.Write, DmaAccess.ReadWrite },
        { "riscv", DmaAccess.Read, DmaAccess.ReadWrite, DmaAccess.ReadWrite },
        { "arm-4k/1", DmaAccess.Read, DmaAccess.ReadWrite, DmaAccess.ReadWrite },
        { "arm-4k/2", DmaAccess.Read, DmaAccess.Write, DmaAccess.ReadWrite },
        { "dart-t8020", DmaAccess.Read, DmaAccess.Write, DmaAccess.ReadWrite },
        { "dart-u3", DmaAccess.ReadWrite, DmaAccess.ReadWrite, DmaAccess.ReadWrite },
        { "gart", DmaAccess.ReadWrite, DmaAccess.ReadWrite, DmaAccess.ReadWrite },
    };

    // Seen failing: snoop control at bit 10; RISC-V's bit 58 not reserved; three of Arm's four high address bits; the
    // ones that tell the size of an AMD leaf taken for address.
    [Theory]
    [MemberData(nameof(Entries))]
    public void EveryBitMeansWhatThePictureSays(string row, int level, ulong word, Masks masks) =>
        Assert.Equal(masks, Of(row).Turn(level, word));

    [Theory]
    [MemberData(nameof(Constants))]
    public void ConstantsAreTheSpecifications(string row, string name, int granule, int indexBits, int top,
        int physical, int entrySize, ulong dirty, ulong accessed, string flags) =>
        Assert.Equal((name, granule, indexBits, top, physical, entrySize, dirty, accessed, flags), Of(row).Constants);

    [Theory]
    [MemberData(nameof(Sizes))]
    public void PageSizesAreTheSpecifications(string row, int topLevel, uint leafLevels, ulong sizes) =>
        Assert.Equal($"{sizes:X}", $"{Of(row).Sizes(topLevel, leafLevels):X}");

    [Theory]
    [MemberData(nameof(Grants))]
    public void FormatsWithoutWriteOnlyGrantBoth(string row, DmaAccess read, DmaAccess write, DmaAccess both) =>
        Assert.Equal((read, write, both), Of(row).Grants);

    // A leaf that fills several items: the word tells its size, or each item has its own address.
    [Theory]
    [InlineData("amdv1", 0, 14, 0x1_2345_4000UL, 0x1_2345_7000UL, 0x6000_0001_2345_5E01UL, 0x6000_0001_2345_5E01UL)]
    [InlineData("amdv1", 1, 22, 0x1_2340_0000UL, 0x1_2360_0000UL, 0x6000_0001_235F_FE01UL, 0x6000_0001_235F_FE01UL)]
    [InlineData("riscv", 0, 16, 0x1_2345_0000UL, 0x1_2345_9000UL, 0x8000_0000_48D1_60D7UL, 0x8000_0000_48D1_60D7UL)]
    [InlineData("arm-4k/1", 0, 16, 0x1_2345_0000UL, 0x1_2345_9000UL, 0x0010_0001_2345_0F43UL, 0x0010_0001_2345_9F43UL)]
    [InlineData("arm-4k/1", 1, 25, 0x4200_0000UL, 0x4220_0000UL, 0x0010_0000_4200_0F41UL, 0x0010_0000_4220_0F41UL)]
    [InlineData("arm-16k/1", 0, 21, 0x1_2320_0000UL, 0x1_2320_4000UL, 0x0010_0001_2320_0F43UL,
        0x0010_0001_2320_4F43UL)]
    [InlineData("arm-16k/1", 1, 30, 0x80_4000_0000UL, 0x80_4200_0000UL, 0x0010_0080_4000_0F41UL,
        0x0010_0080_4200_0F41UL)]
    [InlineData("arm-64k/1", 0, 21, 0x1_2320_0000UL, 0x1_2321_0000UL, 0x0010_0001_2320_0F43UL,
        0x0010_0001_2321_0F43UL)]
    [InlineData("arm-64k/1", 1, 34, 0x4_0000_0000UL, 0x4_2000_0000UL, 0x0010_0004_0000_0F41UL,
        0x0010_0004_2000_0F41UL)]
    public void ItemsOfALargeLeafAreTheseWords(string row, int level, int size, ulong first, ulong other,
        ulong firstWord, ulong otherWord)
    {
        Row format = Of(row);
        Assert.Equal((firstWord, size), format.Item(level, size, new(first)));
        Assert.Equal((otherWord, size), format.Item(level, size, new(other)));
    }

    // The bits that tell a table which restricts nothing from everything else, on the hardware of Of.
    [Theory]
    [InlineData("vtd-ss", 0x400F_C000_0000_0883UL)]
    [InlineData("x86", 0x000F_C000_0000_0087UL)]
    [InlineData("amdv1", 0x600F_C000_0000_0E01UL)]
    [InlineData("riscv", 0xFFFF_0000_0000_00DFUL)]
    [InlineData("arm-4k/1", 0x6000_F000_0000_0003UL)]
    [InlineData("arm-4k/2", 0x0000_F000_0000_0003UL)]
    [InlineData("arm-16k/1", 0x6000_F000_0000_0003UL)]
    [InlineData("arm-64k/1", 0x6000_0000_0000_C003UL)]
    [InlineData("dart-t8020", 0x0000_000C_0000_3001UL)]
    [InlineData("dart-t6000", 0x0000_0030_0000_0001UL)]
    public void OneCompareTellsATableThatRestrictsNothing(string row, ulong mask)
    {
        Row format = Of(row);
        Assert.Equal($"{mask:X16}", $"{format.TableMask:X16}");
        Assert.Equal("", format.WhatIsWrongWithTables());
    }

    // Columns: row, a leaf that says it was not written to, the same when it was.
    [Theory]
    [InlineData("vtd-ss", 0x0000_0001_2345_6003UL, 0x0000_0001_2345_6203UL)]
    [InlineData("x86", 0x0000_0001_2345_6007UL, 0x0000_0001_2345_6047UL)]
    [InlineData("amdv1", 0x6000_0001_2345_6001UL, 0x6000_0001_2345_6041UL)]
    [InlineData("riscv", 0x0000_0000_48D1_5857UL, 0x0000_0000_48D1_58D7UL)]
    [InlineData("arm-4k/1, dirty", 0x0008_0001_2345_6FC3UL, 0x0008_0001_2345_6F43UL)]
    [InlineData("arm-4k/2, dirty", 0x0008_0001_2345_677FUL, 0x0008_0001_2345_67FFUL)]
    public void ThisIsHowHardwareMarksAPageDirty(string row, ulong clean, ulong dirty)
    {
        Row format = Of(row);
        Assert.True(format.RecordsDirty);
        Assert.Equal((false, true), (format.IsDirty(clean), format.IsDirty(dirty)));
        Assert.Equal((clean, clean), (format.WithDirty(clean, false), format.WithDirty(dirty, false)));
        Assert.Equal((dirty, dirty), (format.WithDirty(clean, true), format.WithDirty(dirty, true)));
    }

    // Without DBM, or where the stage does not manage it, write permission is only that.
    [Theory]
    [InlineData("arm-4k/1, dirty", 0x0000_0001_2345_6F43UL, 0x0000_0001_2345_6FC3UL)]
    [InlineData("arm-4k/2, dirty", 0x0000_0001_2345_67FFUL, 0x0000_0001_2345_677FUL)]
    [InlineData("arm-4k/1", 0x0008_0001_2345_6F43UL, 0x0008_0001_2345_6FC3UL)]
    [InlineData("arm-4k/2", 0x0008_0001_2345_67FFUL, 0x0008_0001_2345_677FUL)]
    [InlineData("gart", 0x2345_6023UL, 0xFFFF_FFFFUL)]
    public void ALeafThatCannotSayItIsDirtyStaysAsItIs(string row, params ulong[] words)
    {
        Row format = Of(row);
        Assert.Equal(row.EndsWith("dirty", StringComparison.Ordinal), format.RecordsDirty);
        foreach (ulong word in words)
        {
            Assert.False(format.IsDirty(word));
            Assert.Equal((word, word), (format.WithDirty(word, true), format.WithDirty(word, false)));
        }
    }

    [Theory]
    [InlineData(0x0000_0001_2345_6003UL, "0x123456000 ReadWrite")]
    [InlineData(0x0000_0000_4020_0081UL, "0x40200000 Read leaf")]
    [InlineData(0x0000_0000_4020_0080UL, "absent")]
    public void ASecondStageEntryReadsAsItsFields(ulong word, string text) =>
        Assert.Equal(text, new VtdSecondStageEntry(word).ToString());

    private static Row Of(string row) => row switch
    {
        "vtd-ss" => new Row<VtdSecondStage>(new(default, 4, 46)),
        "vtd-ss, no snoop" => new Row<VtdSecondStage>(new(default, 4, 46) { SnoopControl = false }),
        "vtd-ss, 4 KiB" => new Row<VtdSecondStage>(new(default, 4, 46, 0b001)),
        "vtd-ss, all leaves" => new Row<VtdSecondStage>(new(default, 4, 46, 0b11111)),
        "x86" => new Row<X86>(new(default, 4, 46)),
        "x86, privileged" => new Row<X86>(new(default, 4, 46) { Privileged = true }),
        "x86, 4 KiB" => new Row<X86>(new(default, 4, 46, 0b001)),
        "x86, all leaves" => new Row<X86>(new(default, 4, 46, 0b11111)),
        "amdv1" => new Row<AmdV1>(new(default, 5, 46)),
        "riscv" => new Row<RiscV>(new(default, 3, 50)),
        "riscv, privileged" => new Row<RiscV>(new(default, 3, 50) { Privileged = true }),
        "riscv, second stage" => new Row<RiscV>(new(default, 3, 50) { Privileged = true, InputBits = 50 }),
        "arm-4k/1" => new Row<Arm<Arm4K, ArmStage1>>(new(default, 3, 44)),
        "arm-4k/1, privileged" => new Row<Arm<Arm4K, ArmStage1>>(new(default, 3, 44) { Privileged = true }),
        "arm-4k/1, dirty" => new Row<Arm<Arm4K, ArmStage1Dirty>>(new(default, 3, 44)),
        "arm-4k/2, dirty" => new Row<Arm<Arm4K, ArmStage2Dirty>>(new(default, 3, 44)),
        "arm-4k/2" => new Row<Arm<Arm4K, ArmStage2>>(new(default, 3, 44)),
        "arm-16k/1" => new Row<Arm<Arm16K, ArmStage1>>(new(default, 3, 44)),
        "arm-64k/1" => new Row<Arm<Arm64K, ArmStage1>>(new(default, 2, 50)),
        "dart-t8020" => new Row<Dart<DartT8020>>(new(default, 1, 34)),
        "dart-t6000" => new Row<Dart<DartT6000>>(new(default, 1, 40)),
        "dart-t8110" => new Row<Dart<DartT8110>>(new(default, 1, 40)),
        "dart-u3" => new Row<DartU3>(new(default, 0, 34)),
        _ => new Row<Gart>(new(default, 0, 36)),
    };

    /// <summary>Bits that decide, each in its own respect.</summary>
    public readonly record struct Masks(ulong Reserved, ulong Present, ulong Leaf, ulong Access, ulong Address,
        ulong Size)
    {
        public override string ToString() =>
            $"reserved {Reserved:X} present {Present:X} leaf {Leaf:X} access {Access:X} address {Address:X} "
            + $"size {Size:X}";
    }

    private abstract class Row
    {
        public abstract (string, int, int, int, int, int, ulong, ulong, string) Constants { get; }

        public abstract (DmaAccess, DmaAccess, DmaAccess) Grants { get; }

        public abstract ulong TableMask { get; }

        public abstract bool RecordsDirty { get; }

        public abstract bool IsDirty(ulong leaf);

        public abstract ulong WithDirty(ulong leaf, bool dirty);

        public abstract string WhatIsWrongWithTables();

        public abstract Masks Turn(int level, ulong word);

        public abstract ulong Sizes(int topLevel, uint leafLevels);

        public abstract (ulong Word, int Size) Item(int level, int size, PhysicalAddress item);
    }

    private sealed class Row<TFormat>(PageTableRoot root) : Row
        where TFormat : struct, IPageTableFormat<TFormat>
    {
        public override (string, int, int, int, int, int, ulong, ulong, string) Constants => (TFormat.Name,
            TFormat.GranuleLog2, TFormat.IndexBits, TFormat.MaximumTopLevel, TFormat.PhysicalAddressBits,
            TFormat.EntrySizeLog2, TFormat.DirtyBit, TFormat.AccessedBit,
            (TFormat.BigEndian ? "b" : "") + (TFormat.IsFlat ? "f" : "") + (TFormat.LeavesSpanItems ? "s" : "")
            + (TFormat.ItemsHoldOwnAddress ? "o" : "") + (TFormat.SkipsLevels ? "l" : ""));

        public override (DmaAccess, DmaAccess, DmaAccess) Grants => (TFormat.Granted(DmaAccess.Read),
            TFormat.Granted(DmaAccess.Write), TFormat.Granted(DmaAccess.ReadWrite));

        public override ulong Sizes(int topLevel, uint leafLevels) =>
            TFormat.PageSizes(root with { TopLevel = topLevel, LeafLevels = leafLevels });

        public override (ulong Word, int Size) Item(int level, int size, PhysicalAddress item)
        {
            ulong word = TFormat.Leaf(item, DmaAccess.ReadWrite, level, size);
            return (word, TFormat.LeafSizeLog2(word, level));
        }

        public override ulong TableMask => TFormat.TableMask(root);

        public override bool RecordsDirty => TFormat.RecordsDirty;

        public override bool IsDirty(ulong leaf) => TFormat.IsDirty(leaf);

        public override ulong WithDirty(ulong leaf, bool dirty) => TFormat.WithDirty(leaf, dirty);

        /// <summary>
        /// Words that pass the compare, with any bits where it does not look, and yet are not what passing means; words
        /// that should pass and do not.
        /// </summary>
        public override string WhatIsWrongWithTables()
        {
            ulong mask = TFormat.TableMask(root);
            for (int level = 1; level <= root.TopLevel; level++)
            {
                ulong plain = TFormat.Table(default, level);
                for (int bit = -1; bit <= 64; bit++)
                {
                    ulong noise = bit < 0 ? 0 : bit == 64 ? ulong.MaxValue : 1UL << bit;
                    ulong word = plain | (noise & ~mask);
                    bool isGood = (word & mask) == plain && TFormat.IsPresent(word) && !TFormat.IsLeaf(word, level)
                        && !TFormat.HasReservedBits(word, level, root)
                        && TFormat.Access(word, level, root) == DmaAccess.ReadWrite
                        && TFormat.NextLevel(word, level) == level - 1
                        && TFormat.TableAddress(word) == TFormat.Address(word, level);
                    if (!isGood) { return $"level {level}: {word:X16}"; }
                }
                PhysicalAddress far = new(((1UL << root.PhysicalAddressBits) - 1) >> 16 << 16);
                if ((TFormat.Table(far, level) & mask) != plain) { return $"level {level}: {far} does not pass"; }
            }
            return "";
        }

        public override Masks Turn(int level, ulong word)
        {
            Masks masks = default;
            for (ulong bit = 1; bit != 0; bit <<= 1)
            {
                ulong turned = word ^ bit;
                masks = new(
                    masks.Reserved | If(TFormat.HasReservedBits(turned, level, root)
                        != TFormat.HasReservedBits(word, level, root), bit),
                    masks.Present | If(TFormat.IsPresent(turned) != TFormat.IsPresent(word), bit),
                    masks.Leaf | If(TFormat.IsLeaf(turned, level) != TFormat.IsLeaf(word, level), bit),
                    masks.Access | If(TFormat.Access(turned, level, root) != TFormat.Access(word, level, root), bit),
                    masks.Address | If(TFormat.Address(turned, level) != TFormat.Address(word, level), bit),
                    masks.Size | If(TFormat.LeafSizeLog2(turned, level) != TFormat.LeafSizeLog2(word, level), bit));
            }
            return masks;
        }

        private static ulong If(bool differs, ulong bit) => differs ? bit : 0;
    }
}
