using Sluice.Iommu.Vtd;

namespace Sluice.Remapping.Tests;

public sealed class MappingTests
{
    private static readonly PciAddress[] Devices =
        [PciAddress.From(0, 4, 0), PciAddress.From(0, 4, 1), PciAddress.From(7, 0, 0)];

    public static TheoryData<string> Units =>
        new("plain", "caching", "buffer", "no-psi", "mamv0", "mamv2", "3 levels", "tiny caches", "qemu");

    // Seen failing: the allocator looking for a block of 2^21 pages, which threw; what came after it hung.
    [Theory]
    [InlineData((1 << 20) - 1)]
    [InlineData(1 << 20)]
    public void AsMuchAsIsDocumentedIsMappedAndReserved(int count)
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Devices[0]);
        PhysicalAddress[] few = platform.Buffers(3);
        PhysicalAddress[] pages = [.. Enumerable.Range(0, count).Select(i => few[i % 3])];
        DomainMapping mapping = domain.MustMap(pages, DmaAccess.Read);
        LogicalAddress last = mapping.First + ((ulong)(count - 1) << 12);
        Assert.Equal(few[0], platform.Reach(Devices[0], mapping.First, DmaAccess.Read));
        Assert.Equal(pages[^1], platform.Reach(Devices[0], last, DmaAccess.Read));
        Assert.Equal(UnmapStatus.Unmapped, domain.Unmap(mapping, pages));
        Assert.Null(platform.Reach(Devices[0], last, DmaAccess.Read));
        Assert.Equal(MapStatus.Mapped, domain.TryReserve(count, domain.Last, out DomainReservation? reservation));
        domain.FreeReservation(reservation!);
    }

    // Seen failing: Domain.UnmapNow without Invalidate (a gone page was still reached), InvalidatePages with mask - 1
    // (its second half was), and DomainTables.Map with DmaAccess.ReadWrite (a write through a read mapping).
    [Theory]
    [MemberData(nameof(Units))]
    public void I13DevicesReachExactlyWhatAFlatModelSays(string unit)
    {
        using TestPlatform platform = new(Options(unit));
        using RemappingSystem system = platform.Start();
        Random random = new(unit.Length * 31 + unit[0]);
        Domain[] domains = [.. Devices.Select(
            device => system.CreateDomain(new() { Name = device.ToString(), AddressBits = random.Next(28, 65) }))];
        Domain?[] attached = new Domain?[Devices.Length];
        Dictionary<Domain, Dictionary<ulong, (PhysicalAddress Page, DmaAccess Access)>> model =
            domains.ToDictionary(d => d, _ => new Dictionary<ulong, (PhysicalAddress, DmaAccess)>());
        List<(Domain Domain, DomainMapping Mapping, PhysicalAddress[] Pages)> live = [];
        List<ulong> known = [0, 0x1000];
        for (int turn = 0; turn < 6_000; turn++)
        {
            switch (random.Next(10))
            {
                case < 3 when live.Count < 60:
                    Domain domain = domains[random.Next(domains.Length)];
                    PhysicalAddress[] pages = platform.Buffers(1 + random.Next(1 << random.Next(7)));
                    DmaAccess access = (DmaAccess)random.Next(1, 4);
                    DomainMapping mapping = domain.MustMap(pages, access, ulong.MaxValue >> random.Next(33));
                    for (int i = 0; i < pages.Length; i++)
                    {
                        model[domain].Add(mapping.First.Value + ((ulong)i << 12), (pages[i], access));
                    }
                    live.Add((domain, mapping, pages));
                    known.Add(mapping.First.Value);
                    known.Add(mapping.First.Value + ((ulong)random.Next(pages.Length + 1) << 12));
                    break;
                case < 5 when live.Count != 0:
                    int index = random.Next(live.Count);
                    (Domain of, DomainMapping gone, PhysicalAddress[] freed) = live[index];
                    live.RemoveAt(index);
                    Assert.Equal(UnmapStatus.Unmapped, of.Unmap(gone));
                    for (int i = 0; i < gone.Pages; i++) { model[of].Remove(gone.First.Value + ((ulong)i << 12)); }
                    foreach (PhysicalAddress page in freed) { platform.Frames.Free(page, 12); }
                    break;
                case 5 when random.Next(6) == 0:
                    int which = random.Next(Devices.Length);
                    attached[which] = random.Next(3) == 0 ? null : domains[random.Next(domains.Length)];
                    if (attached[which] is { } target) { system.Attach(target, Devices[which]); }
                    else { system.Detach(Devices[which]); }
                    break;
                default:
                    Probe(random, platform, attached, model, known);
                    break;
            }
        }
        Assert.Equal(0, system.Statistics.DeadUnits);
        Assert.True(system.Statistics.Unmaps > 500);
    }

    // Seen failing: Announce doing nothing for units in caching mode: the new mapping was refused.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AMappingIsReachedThoughTheDeviceAskedForItBeforeItWasThere(bool cachingMode)
    {
        using TestPlatform platform = new(new VtdOptions { CachingMode = cachingMode });
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Devices[0]);
        LogicalAddress last = domain.MustMap(platform.Buffers(1), DmaAccess.Read).First;
        foreach (PhysicalAddress page in platform.Buffers(300))
        {
            // Slots of two pages come downwards.
            LogicalAddress next = last - 0x2000;
            Assert.Null(platform.Reach(Devices[0], next, DmaAccess.Read));
            last = domain.MustMap([page], DmaAccess.Read).First;
            Assert.Equal(next, last);
            Assert.Equal(page, platform.Reach(Devices[0], last, DmaAccess.Read));
        }
    }

    // Seen failing: the kind check removed from TryMap: page tables and kernel code were mapped.
    [Fact]
    public void I12OnlyBufferFramesEverEnterADomain()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Devices[0]);
        PhysicalAddress[] pages = platform.Buffers(3);
        PhysicalAddress[] forbidden =
        [
            .. platform.TestFrames.Of(FrameKind.UnitTable), .. platform.TestFrames.Of(FrameKind.Kernel).Take(20),
            .. platform.TestFrames.Of(FrameKind.Free).Take(20), new(0x8000), new(0xFED9_0000), new(1UL << 60),
        ];
        long maps = system.Statistics.Maps;
        foreach (PhysicalAddress page in forbidden)
        {
            Assert.Equal(MapStatus.Refused, domain.TryMap(
                [pages[0], page, pages[1]], DmaAccess.Read, domain.Last, out _));
        }
        platform.Frames.Quarantine(pages[2]);
        Assert.Equal(MapStatus.Refused, domain.TryMap([pages[2]], DmaAccess.Read, domain.Last, out _));
        Assert.Equal(maps, system.Statistics.Maps);
    }

    // Seen failing: RollBack without TakeBack: half of the pages stayed within reach of the device.
    [Fact]
    public void RunningOutOfTableFramesLeavesNothingMapped()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new() { AddressBits = 24 });
        system.Attach(domain, Devices[0]);
        // More than one table of leaves, so that running out can happen between the two.
        PhysicalAddress[] pages = platform.Buffers(1_000);
        // None for the middle table; one for it, which stays; one for the first leaves, and none for the second.
        foreach (int budget in (int[])[0, 1, 1])
        {
            platform.TestFrames.Budget = budget;
            Assert.Equal(MapStatus.NoMemory, domain.TryMap(pages, DmaAccess.Read, domain.Last, out _));
            platform.TestFrames.Budget = int.MaxValue;
            Assert.Equal(domain.Addresses.Allocations, domain.Addresses.Frees);
            for (ulong address = 0; address < 1 << 24; address += 0x1000)
            {
                Assert.Null(platform.Reach(Devices[0], new(address), DmaAccess.Read));
            }
        }
        platform.TestFrames.Budget = 2;
        DomainMapping mapping = domain.MustMap(pages, DmaAccess.Read);
        Assert.Equal(pages[^1], platform.Reach(Devices[0], mapping.Range.Last.AlignDown(12), DmaAccess.Read));
    }

    [Fact]
    public void ProgrammingErrorsThrowOneLine()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        PhysicalAddress page = platform.Buffers(1)[0];
        Assert.Throws<ArgumentException>(() => domain.TryMap([], DmaAccess.Read, domain.Last, out _));
        Assert.Throws<ArgumentException>(() => domain.TryMap([page], DmaAccess.None, domain.Last, out _));
        Assert.Throws<ArgumentException>(() => domain.TryMap([page + 1], DmaAccess.Read, domain.Last, out _));
        DomainMapping mapping = domain.MustMap([page], DmaAccess.Read);
        domain.Unmap(mapping);
        Assert.Throws<InvalidOperationException>(() => domain.Unmap(mapping));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void MapAndUnmapAllocateNothing(bool buffered)
    {
        using TestPlatform platform = new(new VtdOptions { NeedsWriteBufferFlush = buffered });
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Devices[0]);
        PhysicalAddress[] pages = platform.Buffers(64);
        Turn(domain, pages, 2_000);
        long before = HeapMeter.Now;
        Turn(domain, pages, 2_000);
        HeapMeter.AssertNone(before);

        static void Turn(Domain domain, PhysicalAddress[] pages, int turns)
        {
            for (int i = 0; i < turns; i++)
            {
                // Not Assert.Equal: it allocates.
                if (domain.TryMap(pages.AsSpan(0, 1 + i % 64), DmaAccess.Read, domain.Last,
                    out DomainMapping mapping) != MapStatus.Mapped
                    || domain.Unmap(mapping) != UnmapStatus.Unmapped)
                {
                    Assert.Fail("map or unmap failed");
                }
            }
        }
    }

    private static VtdOptions Options(string unit) => unit switch
    {
        "caching" => new() { CachingMode = true },
        "buffer" => new() { NeedsWriteBufferFlush = true, CachingMode = false },
        "no-psi" => new() { PageSelective = false, MaximumAddressMask = 0 },
        "mamv0" => new() { MaximumAddressMask = 0 },
        "mamv2" => new() { MaximumAddressMask = 2, CachingMode = true },
        "3 levels" => new() { AddressBits = 39 },
        "tiny caches" => new() { IotlbSetsLog2 = 0, IotlbWays = 1, ContextSetsLog2 = 0, ContextWays = 1 },
        "qemu" => VtdOptions.Qemu,
        _ => new(),
    };

    private static void Probe(
        Random random, TestPlatform platform, Domain?[] attached,
        Dictionary<Domain, Dictionary<ulong, (PhysicalAddress Page, DmaAccess Access)>> model,
        List<ulong> known)
    {
        int which = random.Next(Devices.Length);
        ulong page = known[random.Next(known.Count)] + ((ulong)random.Next(-1, 2) << 12) & ~0xFFFUL;
        ulong offset = (ulong)random.Next(0x1000);
        DmaAccess access = (DmaAccess)random.Next(1, 3);
        PhysicalAddress? expected = attached[which] is { } domain
            && model[domain].TryGetValue(page, out (PhysicalAddress Page, DmaAccess Access) entry)
                && (entry.Access & access) == access
                ? entry.Page + offset
                : null;
        Assert.Equal(expected, platform.Reach(Devices[which], new(page + offset), access));
    }
}
