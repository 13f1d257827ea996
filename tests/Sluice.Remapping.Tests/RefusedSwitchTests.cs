using Sluice.Formats.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>A switch that is refused leaves everything in the old domain, and the new one free to go.</summary>
public sealed class RefusedSwitchTests
{
    private static readonly PciAddress Bridge = PciAddress.From(0, 0x1E, 0);
    private static readonly PciAddress Shared = PciAddress.From(2, 0, 0);
    private static readonly PciAddress One = PciAddress.From(2, 1, 0);
    private static readonly PciAddress Two = PciAddress.From(3, 2, 1);
    private static readonly PciAddress Alone = PciAddress.From(0, 4, 0);

    private static TestPlatform NewPlatform() => new()
    {
        Firmware = TestPlatform.Describe() with { Groups = [new(Bridge, 2, 3)] },
    };

    private static RemappingSystem Start(TestPlatform platform, IPhysicalMemory? memory = null) => platform.Start(
        options: new() { WaitNanoseconds = 1_000_000, FaultBurst = 4, StormsUntilQuarantine = 1 }, tableMemory: memory);

    private static void Provoke(TestPlatform platform, RemappingSystem system, PciAddress device)
    {
        for (int i = 0; i < 1_000 && !system.Quarantined.Contains(device); i++)
        {
            Assert.Null(platform.Reach(device, new(0x77_7000), DmaAccess.Read));
            platform.RunInterrupts();
            if (i % 100 == 99) { platform.TestClock.Advance(200_000_000); }
        }
        Assert.Equal([device], system.Quarantined);
    }

    // Seen failing: Switch that noted the new domain before the unit refused: the end of the quarantine published that
    // domain's top table, which was free by then.
    [Fact]
    public void ADeviceInQuarantineStaysInItsDomain()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = Start(platform);
        Domain home = system.CreateDomain(new() { Name = "home" });
        PhysicalAddress[] pages = platform.Buffers(2);
        DomainMapping inHome = home.MustMap([pages[0]], DmaAccess.Read, uint.MaxValue);
        system.Attach(home, Alone);
        Provoke(platform, system, Alone);
        int tables = platform.TestFrames.Count(FrameKind.UnitTable);
        Domain other = system.CreateDomain(new() { Name = "other" });
        other.MustMap([pages[1]], DmaAccess.Read, uint.MaxValue);
        long waits = system.Statistics.Waits;
        Assert.Contains("in quarantine",
            Assert.Throws<RemappingException>(() => system.Switch(Alone, other)).Message, StringComparison.Ordinal);
        Assert.Same(home, system.DomainOf(Alone));
        // The unit is in nobody's list for nothing.
        other.Unmap(other.MustMap([pages[1]], DmaAccess.Read));
        Assert.Equal(waits, system.Statistics.Waits);
        other.Dispose();
        Assert.Equal(tables, platform.TestFrames.Count(FrameKind.UnitTable));

        system.EndQuarantine(Alone);
        Assert.Equal(pages[0], platform.Reach(Alone, inHome.First, DmaAccess.Read));
        Assert.Equal(UnmapStatus.Unmapped, home.Unmap(inHome));
        Assert.Null(platform.Reach(Alone, inHome.First, DmaAccess.Read));
    }

    // Seen failing: Switch that looked at each id when its turn came: the shared ids were in the new domain, which its
    // disposal freed under them.
    [Fact]
    public void AGroupWithOneIdInQuarantineStaysWhole()
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = Start(platform);
        (Domain home, Domain other, DomainMapping inHome, PhysicalAddress page) = AttachGroup(platform, system);
        Provoke(platform, system, Two);
        Assert.Throws<RemappingException>(() => system.Switch(One, other));
        other.Dispose();
        foreach (PciAddress id in (PciAddress[])[One, Shared, Bridge])
        {
            Assert.Equal(page, platform.Reach(id, inHome.First, DmaAccess.Read));
        }
        Assert.Null(platform.Reach(Two, inHome.First, DmaAccess.Read));
        system.EndQuarantine(Two);
        Assert.Equal(page, platform.Reach(Two, inHome.First, DmaAccess.Read));
        Assert.Same(home, system.DomainOf(Two));
    }

    // Seen failing: Switch without a way back: some ids were in one domain and some in the other, and the disposal of
    // the second knew of none.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public void ASwitchThatIsInterruptedGoesBack(int atStore)
    {
        using TestPlatform platform = NewPlatform();
        TestMemory memory = new(platform.Memory);
        using RemappingSystem system = Start(platform, memory);
        (Domain home, Domain other, DomainMapping inHome, PhysicalAddress page) = AttachGroup(platform, system);
        int stores = 0;
        memory.AfterStore = () =>
        {
            if (++stores == atStore) { throw new InvalidOperationException("no more"); }
        };
        Assert.Throws<InvalidOperationException>(() => system.Switch(One, other));
        memory.AfterStore = null;
        other.Dispose();
        foreach (PciAddress id in (PciAddress[])[One, Two, Shared, Bridge])
        {
            Assert.Equal(page, platform.Reach(id, inHome.First, DmaAccess.Read));
            Assert.Same(home, system.DomainOf(id));
        }
        Assert.Equal(UnmapStatus.Unmapped, home.Unmap(inHome));
        Assert.Null(platform.Reach(Shared, inHome.First, DmaAccess.Read));
    }

    // Seen failing: Remove that detached the devices it knew by name: the ids that a dead unit had left in the domain
    // were in it after its end.
    [Fact]
    public void NoIdIsInADomainThatIsGone()
    {
        using TestPlatform platform = NewPlatform();
        using RemappingSystem system = Start(platform);
        (_, Domain other, DomainMapping inHome, _) = AttachGroup(platform, system);
        system.Detach(Two);
        int tails = 0;
        platform.Registers.OnWrite = (offset, _) => offset != VtdRegister.InvalidationQueueTail || tails++ < 2;
        Assert.Throws<RemappingException>(() => system.Switch(One, other));
        other.Dispose();
        foreach (PciAddress id in (PciAddress[])[One, Two, Shared, Bridge])
        {
            Assert.NotSame(other, system.DomainOf(id));
            Assert.Null(platform.Reach(id, inHome.First, DmaAccess.Read));
        }
        Assert.Throws<RemappingException>(() => system.Attach(system.CreateDomain(new()), Two));
    }

    private static (Domain Home, Domain Other, DomainMapping InHome, PhysicalAddress Page) AttachGroup(
        TestPlatform platform, RemappingSystem system)
    {
        Domain home = system.CreateDomain(new() { Name = "home" });
        Domain other = system.CreateDomain(new() { Name = "other" });
        PhysicalAddress page = platform.Buffers(1)[0];
        DomainMapping inHome = home.MustMap([page], DmaAccess.Read, uint.MaxValue);
        system.Attach(home, One);
        system.Attach(home, Two);
        return (home, other, inHome, page);
    }
}
