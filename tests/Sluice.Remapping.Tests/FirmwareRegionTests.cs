using Sluice.Remapping.Vtd;

namespace Sluice.Remapping.Tests;

public sealed class FirmwareRegionTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 2, 0);
    private static readonly PciAddress Other = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Bridge = PciAddress.From(0, 0x1E, 0);
    private static readonly PciAddress One = PciAddress.From(2, 1, 0);
    private static readonly PciAddress Two = PciAddress.From(2, 2, 0);

    private static FirmwareRegion Region(ulong first, ulong last) =>
        new(new(new(first), new(last)), 0, [new(Device.Requester)]);

    [Fact]
    public void ARegionIsMappedToItselfForItsDeviceOnlyAndNeverHandedOut()
    {
        using TestPlatform platform = new() { Firmware = TestPlatform.Describe(Region(0x9_0000, 0x9_FFFF)) };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { AddressBits = 20 });
        Domain other = system.CreateDomain(new());
        system.Attach(domain, Device);
        system.Attach(other, Other);
        for (ulong address = 0x8_F000; address <= 0xA_0000; address += 0x1000)
        {
            bool inside = address is >= 0x9_0000 and <= 0x9_FFFF;
            Assert.Equal(inside ? new PhysicalAddress(address) : null,
                platform.Reach(Device, new(address), DmaAccess.Read));
            Assert.Equal(inside ? new PhysicalAddress(address) : null,
                platform.Reach(Device, new(address), DmaAccess.Write));
            Assert.Null(platform.Reach(Other, new(address), DmaAccess.Read));
        }
        PhysicalAddress page = platform.Buffers(1)[0];
        while (domain.TryMap([page], DmaAccess.Read, domain.Last, out DomainMapping mapping) == MapStatus.Mapped)
        {
            Assert.False(mapping.Range.Overlaps(new(new(0x9_0000), new(0x9_FFFF))));
        }
        system.Detach(Device);
        Assert.Null(platform.Reach(Device, new(0x9_0000), DmaAccess.Read));
        system.Attach(domain, Device);
        Assert.NotNull(platform.Reach(Device, new(0x9_0000), DmaAccess.Read));
    }

    // Seen failing: the kind check removed from MapRegion: the device reached kernel code and the unit's own tables.
    [Theory]
    [InlineData(0xF_F000, 0x10_0FFF, "Kernel")]
    [InlineData(0x18_0000, 0x18_0FFF, "Kernel")]
    [InlineData(0x0, 0x1FF_FFFF, "Kernel")]
    [InlineData(0x80_0000, 0x80_0FFF, "Free")]
    public void I12ARegionOverMemoryThatTheFirmwareDoesNotKeepIsRefusedAndTheDeviceStaysBlocked(
        ulong first, ulong last, string owner)
    {
        using TestPlatform platform = new() { Firmware = TestPlatform.Describe(Region(first, last)) };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        RemappingException refused = Assert.Throws<RemappingException>(() => system.Attach(domain, Device));
        Assert.Contains($"0x{first:X}", refused.Message, StringComparison.Ordinal);
        Assert.Contains("0000:00:02.0", refused.Message, StringComparison.Ordinal);
        Assert.Contains(owner, refused.Message, StringComparison.Ordinal);
        Assert.Null(platform.Reach(Device, new(last), DmaAccess.Read));
        Assert.Null(system.DomainOf(Device));
        system.Attach(domain, Other);
    }

    [Fact]
    public void ARegionOverLiveMappingsIsRefused()
    {
        using TestPlatform platform = new() { Firmware = TestPlatform.Describe(Region(0x1000, 0xF_EFFF)) };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { AddressBits = 20 });
        Assert.Equal(MapStatus.Mapped, domain.TryMap(platform.Buffers(1), DmaAccess.Read, new(0xF_FFFF), out _));
        Assert.Throws<RemappingException>(() => system.Attach(domain, Device));
    }

    [Fact]
    public void ARegionAboveTheAddressesOfANarrowDeviceIsHonoured()
    {
        using TestPlatform platform = new() { Firmware = TestPlatform.Describe(Region(0x7F00_0000, 0x7F00_FFFF)) };
        using RemappingSystem system = platform.Start();
        system.Attach(system.CreateDomain(new() { AddressBits = 24 }), Device);
        Assert.Equal(new PhysicalAddress(0x7F00_8000), platform.Reach(Device, new(0x7F00_8000), DmaAccess.Write));
    }

    [Fact]
    public void ARegionTooLargeToCheckIsRefused()
    {
        using TestPlatform platform = new() { Firmware = TestPlatform.Describe(Region(1UL << 40, ulong.MaxValue)) };
        using RemappingSystem system = platform.Start();
        Assert.Throws<RemappingException>(() => system.Attach(system.CreateDomain(new()), Device));
    }

    // Seen failing: a region of more than 1 GiB refused.
    [Theory]
    [InlineData(0x4080_0000, true, true)]
    [InlineData(0x4080_0000, false, true)]
    [InlineData(0x4_0000_0000, true, true)]
    [InlineData(0x4_0000_1000, true, false)]
    public void ALargeRegionIsMappedUpToABound(ulong length, bool largeLeaves, bool possible)
    {
        const ulong First = 0x8780_0000;
        ulong first = length > 0x8000_0000 ? 0x10_0000_0000 : First;
        using TestPlatform platform = new(new() { Leaves1G = largeLeaves, Leaves2M = largeLeaves })
        {
            Firmware = TestPlatform.Describe(Region(first, first + length - 1)),
        };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        if (!possible)
        {
            RemappingException refused = Assert.Throws<RemappingException>(() => system.Attach(domain, Device));
            Assert.Contains("too large", refused.Message, StringComparison.Ordinal);
            Assert.Null(platform.Reach(Device, new(first), DmaAccess.Read));
            return;
        }
        system.Attach(domain, Device);
        foreach (ulong at in (ulong[])[first, first + (length / 2), first + length - 1])
        {
            Assert.Equal(new PhysicalAddress(at), platform.Reach(Device, new(at), DmaAccess.Write));
        }
        Assert.Null(platform.Reach(Device, new(first - 1), DmaAccess.Write));
        Assert.Null(platform.Reach(Device, new(first + length), DmaAccess.Write));
    }

    // Seen failing: the second of two regions that overlap refused ("cannot be mapped"), and one that is not on pages
    // threw out of the tables.
    [Theory]
    [InlineData(0x9_0000, 0x9_3FFF, 0x9_2000, 0x9_5FFF)]
    [InlineData(0x9_2000, 0x9_5FFF, 0x9_0000, 0x9_3FFF)]
    [InlineData(0x9_0000, 0x9_7FFF, 0x9_2000, 0x9_2FFF)]
    [InlineData(0x9_2000, 0x9_2FFF, 0x9_0000, 0x9_7FFF)]
    [InlineData(0x9_0000, 0x9_0FFF, 0x9_1000, 0x9_1FFF)]
    [InlineData(0x9_0000, 0x9_0FFF, 0x9_0000, 0x9_0FFF)]
    [InlineData(0x9_0123, 0x9_1010, 0x9_1ABC, 0x9_3000)]
    [InlineData(0x9_0FFF, 0x9_1000, 0x9_0FFF, 0x9_0FFF)]
    public void RegionsOfOneDeviceMayOverlapAndNeedNotBeWholePages(ulong first, ulong last, ulong first2, ulong last2)
    {
        using TestPlatform platform = new()
        {
            Firmware = TestPlatform.Describe(Region(first, last), Region(first2, last2)),
        };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { AddressBits = 20 });
        for (int turn = 0; turn < 3; turn++)
        {
            system.Attach(domain, Device);
            for (ulong page = 0x8_F000; page < 0x9_9000; page += 0x1000)
            {
                bool inside = (page | 0xFFF) >= first && page <= last || (page | 0xFFF) >= first2 && page <= last2;
                Assert.Equal(inside ? new PhysicalAddress(page + 0x10) : null,
                    platform.Reach(Device, new(page + 0x10), DmaAccess.Read));
            }
            system.Detach(Device);
        }
        while (domain.TryMap(platform.Buffers(1), DmaAccess.Read, domain.Last, out DomainMapping mapping)
            == MapStatus.Mapped)
        {
            Assert.False(mapping.Range.Overlaps(new(new(first & ~0xFFFUL), new(last | 0xFFF))));
            Assert.False(mapping.Range.Overlaps(new(new(first2 & ~0xFFFUL), new(last2 | 0xFFF))));
        }
    }

    // Seen failing: regions mapped one by one: the first stayed reachable for whoever else was in the domain.
    [Fact]
    public void WhereOneRegionOfADeviceIsRefusedNoneIsMapped()
    {
        using TestPlatform platform = new()
        {
            Firmware = TestPlatform.Describe(Region(0x9_0000, 0x9_0FFF), Region(0x80_0000, 0x80_0FFF)),
        };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Other);
        Assert.Throws<RemappingException>(() => system.Attach(domain, Device));
        Assert.Null(platform.Reach(Other, new(0x9_0000), DmaAccess.Read));
        Assert.Null(platform.Reach(Device, new(0x9_0000), DmaAccess.Read));
    }

    // Seen failing: the first region left mapped when memory ran out at the second.
    [Fact]
    public void WhereTablesForOneRegionRunShortNoneIsMapped()
    {
        using TestPlatform platform = new(new() { Leaves1G = false, Leaves2M = false })
        {
            Firmware = TestPlatform.Describe(Region(0x9_0000, 0x9_0FFF), Region(0x8000_0000, 0x8FFF_FFFF)),
        };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Other);
        platform.TestFrames.Budget = 20;
        RemappingException refused = Assert.Throws<RemappingException>(() => system.Attach(domain, Device));
        Assert.Contains("NoFrames", refused.Message, StringComparison.Ordinal);
        Assert.Null(platform.Reach(Other, new(0x9_0000), DmaAccess.Read));
        Assert.Null(platform.Reach(Other, new(0x8000_0000), DmaAccess.Read));
        platform.TestFrames.Budget = int.MaxValue;
        system.Attach(domain, Device);
        Assert.NotNull(platform.Reach(Device, new(0x8FFF_FFFF), DmaAccess.Read));
        Assert.NotNull(platform.Reach(Device, new(0x9_0000), DmaAccess.Read));
    }

    // Seen failing: addresses of a mate's region handed out before the mate was attached, which was refused then; and
    // reserved only when the first member is attached, after what was mapped before.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void TheRegionsOfAWholeGroupAreKeptFreeFromTheStart(bool named)
    {
        using TestPlatform platform = new()
        {
            Firmware = TestPlatform.Describe(
                new FirmwareRegion(new(new(0x1000), new(0x6_FFFF)), 0, [new(Two.Requester)]),
                new FirmwareRegion(new(new(0x7_0000), new(0x9_0FFF)), 0, [new(Bridge.Requester)]),
                new FirmwareRegion(new(new(0xC_0000), new(0xC_0FFF)), 0, [new(PciAddress.From(9, 0, 0).Requester)]))
                with { Groups = [new(Bridge, 2, 3)] },
        };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { AddressBits = 20, Devices = named ? [One] : [] });
        if (!named) { system.Attach(domain, One); }
        int mapped = 0;
        bool strangers = false;
        for (; domain.TryMap(platform.Buffers(1), DmaAccess.Read, domain.Last, out DomainMapping mapping)
            == MapStatus.Mapped; mapped++)
        {
            Assert.False(mapping.Range.Overlaps(new(new(0x1000), new(0x9_0FFF))), $"{mapping.Range}");
            strangers |= mapping.Range.Overlaps(new(new(0xC_0000), new(0xC_0FFF)));
        }
        Assert.InRange(mapped, 20, 0x6F);
        if (named) { system.Attach(domain, One); }
        Assert.True(strangers, "the region of a device outside the group is nobody's here");
        Assert.Null(platform.Reach(One, new(0x1000), DmaAccess.Read));
        system.Attach(domain, Two);
        Assert.Equal(new PhysicalAddress(0x1000), platform.Reach(Two, new(0x1000), DmaAccess.Read));
    }

    // Seen failing: a mate's region over everything took the addresses of the whole group, though no device may have it.
    [Fact]
    public void ARegionThatNoDeviceMayHaveTakesNothingFromItsGroup()
    {
        using TestPlatform platform = new()
        {
            Firmware = TestPlatform.Describe(
                new FirmwareRegion(new(new(0x1000), new(0xFF_FFFF)), 0, [new(Two.Requester)]))
                with { Groups = [new(Bridge, 2, 3)] },
        };
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { AddressBits = 24, Devices = [One] });
        system.Attach(domain, One);
        Assert.NotNull(platform.Reach(One, domain.MustMap(platform.Buffers(1), DmaAccess.Read).First, DmaAccess.Read));
        Assert.Throws<RemappingException>(() => system.Attach(domain, Two));
    }
}
