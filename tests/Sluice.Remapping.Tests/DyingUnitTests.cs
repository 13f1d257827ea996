using Sluice.Formats.Vtd;
using Sluice.Iommu.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>
/// One thread has given a unit up and is about to say so; what others do in between, they do with a dead unit.
/// </summary>
public sealed class DyingUnitTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Other = PciAddress.From(0, 5, 0);

    // Seen failing: Detach that took the unit from the domain's list without its confirmation: the thread that had
    // given it up found the domain no more, every unmap was "confirmed", and a disposal freed tables that could be
    // walked.
    [Theory]
    [InlineData("detach")]
    [InlineData("detach one of two")]
    [InlineData("dispose")]
    public void ADomainThatADyingUnitLeavesIsDead(string meanwhile)
    {
        using TestPlatform platform = new();
        TestMemory memory = new(platform.Memory);
        using RemappingSystem system = platform.Start(tableMemory: memory);
        Domain domain = system.CreateDomain(new());
        Domain witness = system.CreateDomain(new());
        Domain next = system.CreateDomain(new());
        system.Attach(domain, Device);
        system.Attach(witness, Other);
        if (meanwhile == "detach one of two") { system.Attach(domain, PciAddress.From(0, 6, 0)); }
        PhysicalAddress[] pages = platform.Buffers(2);
        DomainMapping mapping = domain.MustMap([pages[0]], DmaAccess.Read);
        DomainMapping last = witness.MustMap([pages[1]], DmaAccess.Read);
        Assert.Equal(pages[0], platform.Reach(Device, mapping.First, DmaAccess.Read));
        int tables = platform.TestFrames.Count(FrameKind.UnitTable);
        platform.Registers.OnWrite = static (offset, _) => offset != VtdRegister.InvalidationQueueTail;
        bool done = false;
        memory.AfterStore = () =>
        {
            // The first root entry that the thread clears which has given the unit up.
            memory.AfterStore = null;
            Assert.Throws<RemappingException>(() => system.Attach(next, Device));
            if (meanwhile == "dispose") { domain.Dispose(); }
            else { Assert.False(system.Detach(Device)); }
            done = true;
            Assert.True(domain.IsDead);
            Assert.Equal(UnmapStatus.Quarantined, domain.Unmap(mapping));
        };
        Assert.Equal(UnmapStatus.Quarantined, witness.Unmap(last));
        Assert.True(done);
        Assert.Equal(FrameKind.Quarantined, platform.Frames.KindOf(pages[0]));
        Assert.Null(platform.Reach(Device, mapping.First, DmaAccess.Read));
        domain.Dispose();
        Assert.Equal(tables, platform.TestFrames.Count(FrameKind.UnitTable));
        Assert.NotEqual(domain.Id, system.CreateDomain(new()).Id);
    }

    // Seen failing: Invalidate and InvalidateAll that only said no: the next page was mapped in a domain whose unit was
    // given up.
    [Theory]
    [InlineData(InvalidationPolicy.Strict)]
    [InlineData(InvalidationPolicy.Deferred)]
    public void ADomainWhoseInvalidationIsRefusedIsDeadBeforeItIsTold(InvalidationPolicy policy)
    {
        using TestPlatform platform = new();
        TestMemory memory = new(platform.Memory);
        using RemappingSystem system = platform.Start(tableMemory: memory);
        Domain domain = system.CreateDomain(new() { Policy = policy });
        Domain witness = system.CreateDomain(new());
        system.Attach(domain, Device);
        system.Attach(witness, Other);
        PhysicalAddress[] pages = platform.Buffers(2);
        DomainMapping mapping = domain.MustMap([pages[0]], DmaAccess.Read);
        DomainMapping last = witness.MustMap([pages[1]], DmaAccess.Read);
        platform.Registers.OnWrite = static (offset, _) => offset != VtdRegister.InvalidationQueueTail;
        bool done = false;
        memory.AfterStore = () =>
        {
            memory.AfterStore = null;
            domain.Unmap(mapping);
            domain.FlushNow();
            done = domain.IsDead
                && domain.TryMap([pages[0]], DmaAccess.Read, domain.Last, out _) == MapStatus.Dead;
        };
        Assert.Equal(UnmapStatus.Quarantined, witness.Unmap(last));
        Assert.True(done);
    }

    // Seen failing: TryFlushWrites that only said no: the detach went on as if the unit had seen the tables change, and
    // unmapping was confirmed.
    [Fact]
    public void AUnitThatKeepsTableWritesBackForGoodIsGivenUp()
    {
        using TestPlatform platform = new(new VtdOptions { NeedsWriteBufferFlush = true });
        using RemappingSystem system = platform.Start();
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Device);
        PhysicalAddress[] pages = platform.Buffers(1);
        DomainMapping mapping = domain.MustMap(pages, DmaAccess.Read);
        platform.Registers.OnRead = offset => offset == VtdRegister.GlobalStatus
            ? platform.Unit.Registers.Read32(offset) | VtdGlobal.WriteBufferFlush
            : null;
        Assert.False(system.Detach(Device));
        Assert.Equal(1, system.Statistics.DeadUnits);
        Assert.Equal(UnmapStatus.Quarantined, domain.Unmap(mapping, pages));
        Assert.Equal(FrameKind.Quarantined, platform.Frames.KindOf(pages[0]));
    }
}
