using Sluice.Iommu.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>A device goes from one domain to another while it does DMA.</summary>
public sealed class SwitchTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Other = PciAddress.From(3, 1, 2);

    // Seen failing: Switch without InvalidateDevice (the old page after it returned).
    [Theory]
    [InlineData(WideStores.Whole, false)]
    [InlineData(WideStores.Whole, true)]
    [InlineData(WideStores.None, false)]
    [InlineData(WideStores.None, true)]
    public void I07BetweenAnyTwoStoresOfASwitchADeviceReachesOldOrNew(WideStores stores, bool cachingMode)
    {
        (List<string> wrong, int looks, int blocked) = SwitchBackAndForth(stores, cachingMode);
        Assert.Empty(wrong);
        Assert.True(looks >= 12, "the changes were watched");
        // Blocked in between only where 16 bytes cannot be stored at once.
        Assert.Equal(stores == WideStores.None || !PhysicalMemory.HasAtomic128, blocked > 0);
    }

    // What keeps the test above honest: the mistake it is there for, planted for good.
    [Fact]
    public void I07ATornStoreIsNoticed()
    {
        (List<string> wrong, _, _) = SwitchBackAndForth(WideStores.Torn, cachingMode: false);
        Assert.NotEmpty(wrong);
    }

    private static (List<string> Wrong, int Looks, int Blocked) SwitchBackAndForth(WideStores stores, bool cachingMode)
    {
        using TestPlatform platform = new(new VtdOptions { CachingMode = cachingMode });
        TestMemory memory = new(platform.Memory) { WideStores = stores };
        using RemappingSystem system = platform.Start(tableMemory: memory);
        LogicalAddress limit = new(0xFFFF_FFFF);
        PhysicalAddress[] pages = platform.Buffers(2);
        // The same logical address in both, and tables of different depth: a mixture reaches neither page or, worse,
        // one of them under the other's id.
        Domain[] domains =
            [system.CreateDomain(new() { Name = "a" }), system.CreateDomain(new() { Name = "b", AddressBits = 36 })];
        Assert.Equal(
            MapStatus.Mapped, domains[0].TryMap(pages.AsSpan(0, 1), DmaAccess.ReadWrite, limit, out DomainMapping at));
        Assert.Equal(
            MapStatus.Mapped, domains[1].TryMap(pages.AsSpan(1, 1), DmaAccess.ReadWrite, limit, out DomainMapping same));
        Assert.Equal(at.First, same.First);
        system.Attach(domains[0], Device);
        List<string> wrong = [];
        (int looks, int blocked, int target, bool seenNew) = (0, 0, 0, false);
        void Look()
        {
            PhysicalAddress? reached = platform.Reach(Device, at.First, DmaAccess.Write);
            looks++;
            if (reached is null) { blocked++; }
            else if (reached == pages[target]) { seenNew = true; }
            else if (reached != pages[1 - target] || seenNew) { wrong.Add($"{reached} on the way to {pages[target]}"); }
            if (reached is null && stores != WideStores.None) { wrong.Add("blocked in between"); }
        }
        memory.AfterStore = Look;
        platform.Registers.OnWrite = (_, _) =>
        {
            Look();
            return true;
        };
        for (int round = 0; round < 6; round++)
        {
            (target, seenNew) = (1 - target, false);
            bool atomic = system.Switch(Device, domains[target]);
            if (atomic != (stores != WideStores.None && PhysicalMemory.HasAtomic128)) { wrong.Add($"said {atomic}"); }
            if (platform.Reach(Device, at.First, DmaAccess.Write) != pages[target]) { wrong.Add("old after the switch"); }
            // What the unit cached during the switch must not hold a mixture either.
            if (platform.Reach(Device, at.First, DmaAccess.Read) != pages[target]) { wrong.Add("stale after the switch"); }
            Assert.Same(domains[target], system.DomainOf(Device));
        }
        (memory.AfterStore, platform.Registers.OnWrite) = (null, null);
        return (wrong, looks, blocked);
    }

    // Seen failing: Switch that left the unit in the old domain's list (its unmap still went to the unit: Waits grew),
    // and one that did not join the new domain (an unmap there left the page within reach).
    [Fact]
    public void AfterASwitchUnmappingInTheNewDomainIsWhatCounts()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain a = system.CreateDomain(new() { Name = "a" });
        Domain b = system.CreateDomain(new() { Name = "b" });
        PhysicalAddress[] pages = platform.Buffers(2);
        DomainMapping inA = a.MustMap([pages[0]], DmaAccess.Read);
        DomainMapping inB = b.MustMap([pages[1]], DmaAccess.Read);
        system.Attach(a, Device);
        Assert.Equal(pages[0], platform.Reach(Device, inA.First, DmaAccess.Read));
        system.Switch(Device, b);
        Assert.Equal(pages[1], platform.Reach(Device, inB.First, DmaAccess.Read));
        long waits = system.Statistics.Waits;
        a.Unmap(inA);
        Assert.Equal(waits, system.Statistics.Waits);
        b.Unmap(inB);
        Assert.Null(platform.Reach(Device, inB.First, DmaAccess.Read));
        // The old domain may go, and its id come back, without a trace.
        a.Dispose();
        Domain next = system.CreateDomain(new());
        system.Attach(next, Other);
        Assert.Null(platform.Reach(Other, inA.First, DmaAccess.Read));
    }

    [Fact]
    public void ASwitchNeedsADeviceThatIsAttachedAndADomainThatLives()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Domain a = system.CreateDomain(new() { Name = "a" });
        RemappingException refused = Assert.Throws<RemappingException>(() => system.Switch(Device, a));
        Assert.Contains("attached to no domain", refused.Message, StringComparison.Ordinal);
        Assert.Null(system.DomainOf(Device));
        system.Attach(a, Device);
        Assert.True(system.Switch(Device, a));
        Domain b = system.CreateDomain(new());
        b.Dispose();
        Assert.Throws<ObjectDisposedException>(() => system.Switch(Device, b));
        Assert.Same(a, system.DomainOf(Device));
    }

    // A unit that dies in the middle: the device is blocked, the exception says so, and both domains end cleanly.
    [Fact]
    public void AUnitThatDiesInASwitchLeavesTheDeviceBlocked()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start(options: new() { WaitNanoseconds = 10_000 });
        Domain a = system.CreateDomain(new() { Name = "a" });
        Domain b = system.CreateDomain(new() { Name = "b" });
        DomainMapping inA = a.MustMap(platform.Buffers(1), DmaAccess.Read);
        DomainMapping inB = b.MustMap(platform.Buffers(1), DmaAccess.Read);
        system.Attach(a, Device);
        Assert.NotNull(platform.Reach(Device, inA.First, DmaAccess.Read));
        platform.Registers.OnWrite = (offset, _) => offset != Formats.Vtd.VtdRegister.InvalidationQueueTail;
        Assert.Throws<RemappingException>(() => system.Switch(Device, b));
        Assert.Null(platform.Reach(Device, inA.First, DmaAccess.Read));
        Assert.Null(platform.Reach(Device, inB.First, DmaAccess.Read));
        Assert.True(b.IsDead);
        Assert.Equal(MapStatus.Dead, a.TryMap(platform.Buffers(1), DmaAccess.Read, new(ulong.MaxValue), out _));
    }
}
