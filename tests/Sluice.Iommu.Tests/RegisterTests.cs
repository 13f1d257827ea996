using Sluice.Iommu.Vtd;

namespace Sluice.Iommu.Tests;

/// <summary>Reset values, access widths, read-only bits, commands.</summary>
public sealed class RegisterTests
{
    [Fact]
    public void QemusUnitReportsWhatQemuReports()
    {
        using Rig rig = new(VtdOptions.Qemu);
        Assert.Equal(0x10u, rig.Registers.Read32(0x00));
        Assert.Equal(0x80D2_008C_222F_0606UL, rig.Registers.Read64(0x08));
        Assert.Equal(0xF42UL, rig.Registers.Read64(0x10));
    }

    [Fact]
    public void TheMachinesUnitReportsItsOptions()
    {
        using Rig rig = new();
        // 16-bit domains, 39/48/57 bits, records at 0x220, 2 MiB and 1 GiB leaves, page-selective, 8 records, mask 18,
        // drains.
        Assert.Equal(0x00D2_078C_2238_0E06UL, rig.Registers.Read64(0x08));
        using Rig caching = new(new()
        {
            CachingMode = true, NeedsWriteBufferFlush = true, Leaves1G = false, AddressBits = 39, DomainIdBits = 8,
        });
        Assert.Equal(0x00D2_0784_2226_0292UL, caching.Registers.Read64(0x08));
    }

    [Fact]
    public void OutOfResetEventsAreMaskedAndAllElseIsZero()
    {
        using Rig rig = new();
        for (uint offset = 0x18; offset < rig.Registers.Length; offset += 4)
        {
            uint expected = offset is 0x38 or 0xA0 ? 0x8000_0000u : 0;
            Assert.Equal(expected, rig.Registers.Read32(offset));
        }
    }

    // Writing all ones shows which bits software owns. Seen failing: the root table mask without TTM; IQA keeping bit
    // 11.
    [Theory]
    [InlineData(0x00, 0x10UL)]
    [InlineData(0x20, 0xFFFF_FFFF_FFFF_FC00UL)]
    [InlineData(0x80, 0UL)]
    [InlineData(0x88, 0x7_FFF0UL)]
    [InlineData(0x90, 0xFFFF_FFFF_FFFF_F007UL)]
    [InlineData(0xA0, 0x0000_FFFF_8000_0000UL)]
    [InlineData(0xA8, 0x0000_0000_FFFF_FFFCUL)]
    [InlineData(0xB8, 0xFFFF_FFFF_FFFF_F80FUL)]
    [InlineData(0xF0, 0UL)]
    [InlineData(0x38, 0x0000_FFFF_8000_0000UL)]
    [InlineData(0x40, 0x0000_0000_FFFF_FFFCUL)]
    [InlineData(0x58, 0UL)]
    [InlineData(0x60, 0UL)]
    [InlineData(0x68, 0UL)]
    [InlineData(0x220, 0UL)]
    public void OnlyWritableBitsAreWritten(uint offset, ulong expected)
    {
        using Rig whole = new();
        whole.Registers.Write64(offset, ulong.MaxValue);
        Assert.Equal(expected, whole.Registers.Read64(offset));
        using Rig halves = new();
        halves.Registers.Write32(offset, uint.MaxValue);
        halves.Registers.Write32(offset + 4, uint.MaxValue);
        Assert.Equal((uint)expected, halves.Registers.Read32(offset));
        Assert.Equal((uint)(expected >> 32), halves.Registers.Read32(offset + 4));
    }

    [Fact]
    public void NarrowReadsGiveTheBytesAndNarrowWritesAreIgnored()
    {
        using Rig rig = new();
        rig.Registers.Write64(0x20, 0x1122_3344_5566_7400);
        Assert.Equal(0x74, rig.Registers.Read8(0x21));
        Assert.Equal(0x3344, rig.Registers.Read16(0x24));
        rig.Registers.Write8(0x21, 0);
        rig.Registers.Write16(0x24, 0);
        Assert.Equal(0x1122_3344_5566_7400UL, rig.Registers.Read64(0x20));
    }

    [Fact]
    public void UnalignedAndOutsideAccessesAreMistakesOfTheCaller()
    {
        using Rig rig = new();
        Assert.Equal(0x1000u, rig.Registers.Length);
        Assert.Throws<ArgumentOutOfRangeException>(() => rig.Registers.Read32(2));
        Assert.Throws<ArgumentOutOfRangeException>(() => rig.Registers.Read64(4));
        Assert.Throws<ArgumentOutOfRangeException>(() => rig.Registers.Write32(0x1000, 0));
    }

    [Fact]
    public void StatusFollowsCommands()
    {
        using Rig rig = new();
        Assert.Equal(0u, rig.Registers.Read32(0x18));
        rig.Enable();
        Assert.Equal(0xC400_0000u, rig.Registers.Read32(0x1C));
        rig.Registers.Write32(0x18, 0xC400_0000u | 1u << 27);
        Assert.Equal(0xC400_0000u, rig.Registers.Read32(0x1C));
        rig.Registers.Write32(0x18, 0x0380_0000u);
        Assert.Equal(0x4380_0000u, rig.Registers.Read32(0x1C));
        rig.Unit.Reset();
        Assert.Equal(0u, rig.Registers.Read32(0x1C));
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(2UL)]
    [InlineData(3UL)]
    public void RegisterInvalidationsEndNotBusyAndSayWhatTheyDid(ulong granularity)
    {
        using Rig rig = new();
        rig.Registers.Write64(0x28, (1UL << 63) | (granularity << 61) | 0x0020_0005);
        Assert.Equal((granularity << 61) | (granularity << 59) | 5, rig.Registers.Read64(0x28));
        rig.Registers.Write64(0xF0, 0x4000_0000);
        rig.Registers.Write32(0xFC, 1u << 31 | (uint)granularity << 28 | 5);
        Assert.Equal((uint)granularity << 28 | (uint)granularity << 25 | 5, rig.Registers.Read32(0xFC));
    }

    [Fact]
    public void ImpossibleRegisterInvalidationsDoNothingAndSayReserved()
    {
        using Rig rig = new();
        rig.Registers.Write64(0x28, 1UL << 63);
        Assert.Equal(0UL, rig.Registers.Read64(0x28) >> 59);
        rig.Registers.Write64(0xF0, 0x4000_0000 | 19);
        rig.Registers.Write64(0xF8, 0xB000_0000_0000_0000);
        Assert.Equal(0x6UL, rig.Registers.Read64(0xF8) >> 59);
        Assert.Equal(0, rig.Unit.Counters.IotlbInvalidations);
    }

    [Fact]
    public void WithoutPageSelectionTheDomainIsInvalidatedAndReported()
    {
        using Rig rig = new(new() { PageSelective = false });
        rig.Registers.Write64(0xF8, 0xB000_0005_0000_0000);
        Assert.Equal(0x3400_0005_0000_0000UL, rig.Registers.Read64(0xF8));
    }

    [Fact]
    public void AUnitThatCannotBeIsNotBuilt()
    {
        using Rig rig = new();
        foreach (VtdOptions bad in (VtdOptions[])
            [
                new() { AddressBits = 40 }, new() { HostAddressBits = 53 }, new() { FaultRecords = 0 },
                new() { FaultRecords = 257 }, new() { IotlbWays = 0 }, new() { MaximumAddressMask = 46 },
                new() { DomainIdBits = 5 }, new() { FaultRecordOffset = 0xF0 }, new() { FaultRecordOffset = 0x228 },
                new() { InvalidateAddressOffset = 0x10 }, new() { DrainLimit = TimeSpan.Zero },
            ])
        {
            Assert.Throws<ArgumentException>(() => new VtdUnit(bad, rig.Memory, rig));
        }
    }
}
