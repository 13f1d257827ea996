using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;
using Sluice.Iommu.Vtd;

namespace Sluice.Remapping.Tests;

public sealed class StartTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private static readonly LogicalAddress[] Probes =
        [new(0), new(0x1000), new(0x20_0000), new(0x12_3456_7000), new(0xFFFF_F000)];

    // Seen failing: VtdUnitDriver.Start without setting TranslationEnable: every probe passed unchanged.
    [Fact]
    public void I02AfterStartNobodyReachesAnything()
    {
        using TestPlatform platform = new();
        using RemappingSystem system = platform.Start();
        Random random = new(5);
        for (int i = 0; i < 1_000; i++)
        {
            PciAddress device = new(0, new((ushort)random.Next(0x1_0000)));
            Assert.Null(platform.Reach(device, new((ulong)random.NextInt64() >> random.Next(64)), DmaAccess.Read));
            Assert.Null(platform.Reach(device, new((ulong)random.NextInt64() >> random.Next(64)), DmaAccess.Write));
        }
    }

    // Seen failing: Dispose that switched translation off: the probes passed unchanged.
    [Fact]
    public void AfterTheEndNobodyReachesAnythingAndTheTablesOfDomainsAreFree()
    {
        using TestPlatform platform = new();
        RemappingSystem system = platform.Start();
        int before = platform.TestFrames.Count(FrameKind.UnitTable);
        Domain domain = system.CreateDomain(new());
        system.Attach(domain, Device);
        DomainMapping mapping = domain.MustMap(platform.Buffers(3), DmaAccess.ReadWrite);
        Assert.NotNull(platform.Reach(Device, mapping.First, DmaAccess.Read));
        system.Dispose();
        Assert.Null(platform.Reach(Device, mapping.First, DmaAccess.Read));
        foreach (LogicalAddress probe in Probes) { Assert.Null(platform.Reach(Device, probe, DmaAccess.Read)); }
        // The bus keeps its context table, which is empty.
        Assert.Equal(before + 1, platform.TestFrames.Count(FrameKind.UnitTable));
    }

    // Seen failing: Start that clears TranslationEnable before the root table: identity was visible between two
    // register writes.
    [Fact]
    public void ATranslationThatFirmwareLeftOnIsTakenOverWithoutAnIdentityMoment()
    {
        using TestPlatform platform = new();
        PhysicalAddress page = FirmwareTranslation(platform);
        LogicalAddress mapped = new(0x5000);
        Assert.Equal(page, platform.Reach(Device, mapped, DmaAccess.Read));
        int looks = 0;
        bool Look(uint offset, ulong value)
        {
            PhysicalAddress? reached = platform.Reach(Device, mapped, DmaAccess.Read);
            Assert.True(reached is null || reached == page, $"reached {reached} before the write to 0x{offset:X}");
            foreach (LogicalAddress probe in Probes) { Assert.Null(platform.Reach(Device, probe, DmaAccess.Write)); }
            looks++;
            return true;
        }
        platform.Registers.OnWrite = Look;
        using RemappingSystem system = platform.Start();
        Assert.True(looks > 8, "the start-up was watched");
        Assert.Null(platform.Reach(Device, mapped, DmaAccess.Read));
    }

    [Fact]
    public void ASystemThatEndedCanBeStartedAgain()
    {
        using TestPlatform platform = new();
        FaultList faults = new();
        for (int run = 0; run < 3; run++)
        {
            using RemappingSystem system = platform.Start(faults);
            Domain domain = system.CreateDomain(new());
            system.Attach(domain, Device);
            DomainMapping mapping = domain.MustMap(platform.Buffers(1), DmaAccess.Read);
            Assert.NotNull(platform.Reach(Device, mapping.First, DmaAccess.Read));
            Assert.Null(platform.Reach(Device, new(0x77_7000), DmaAccess.Read));
            platform.RunInterrupts();
            Assert.Equal(run + 1, faults.Faults.Count);
        }
    }

    // Seen failing: a Require left out around SetRootTable: Start returned as if all were well.
    [Theory]
    [InlineData(VtdGlobal.QueuedInvalidationEnable, "queue")]
    [InlineData(VtdGlobal.SetRootTable, "root table")]
    [InlineData(VtdGlobal.TranslationEnable, "translation")]
    public void AUnitThatDoesNotConfirmAStepFailsTheStartWithOneLineInBoundedTime(uint bit, string word)
    {
        using TestPlatform platform = new();
        platform.Registers.OnWrite = (offset, value) => offset != VtdRegister.GlobalCommand || (value & bit) == 0;
        RemappingException failure = Assert.Throws<RemappingException>(() => platform.Start());
        Assert.Contains(word, failure.Message, StringComparison.Ordinal);
        Assert.Contains("0xFED90000", failure.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', failure.Message);
        Assert.True(platform.TestClock.Nanoseconds < 10_000_000, "the wait is bounded");
    }

    // Seen failing: what a register access threw coming out of Start as it was.
    [Fact]
    public void AUnitWhoseQueueThrowsFailsTheStartWithTheReason()
    {
        using TestPlatform platform = new();
        platform.Registers.OnWrite = (offset, value) => offset != VtdRegister.InvalidationQueueTail || value == 0
            ? true
            : throw new InvalidOperationException("the machine is gone");
        RemappingException failure = Assert.Throws<RemappingException>(() => platform.Start());
        Assert.Contains("the machine is gone", failure.Message, StringComparison.Ordinal);
        Assert.IsType<InvalidOperationException>(failure.InnerException);
    }

    [Fact]
    public void AUnitThatDoesNotAnswerIsRefused()
    {
        using TestPlatform platform = new();
        platform.Registers.OnRead = _ => ulong.MaxValue;
        Assert.Contains("does not answer", Assert.Throws<RemappingException>(() => platform.Start()).Message,
            StringComparison.Ordinal);
    }

    // Seen failing: TryFlushWrites ignoring Capability.NeedsWriteBufferFlush.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TheWriteBufferIsFlushedExactlyWhereTheUnitHasOne(bool needed)
    {
        using TestPlatform platform = new(new VtdOptions { NeedsWriteBufferFlush = needed });
        int flushes = 0;
        platform.Registers.OnWrite = (offset, value) =>
        {
            if (offset == VtdRegister.GlobalCommand && (value & VtdGlobal.WriteBufferFlush) != 0) { flushes++; }
            return true;
        };
        using RemappingSystem system = platform.Start();
        Assert.Equal(needed, flushes > 0);
        Domain domain = system.CreateDomain(new());
        int before = flushes;
        system.Attach(domain, Device);
        Assert.Equal(needed, flushes > before);
        before = flushes;
        Assert.Equal(MapStatus.Mapped, domain.TryMap(platform.Buffers(1), DmaAccess.Read, domain.Last, out _));
        Assert.Equal(needed, flushes > before);
    }

    [Fact]
    public void OptionsOutsideTheirRangeAreProgrammingErrors()
    {
        using TestPlatform platform = new();
        Assert.Throws<ArgumentOutOfRangeException>(() => platform.Start(options: new() { QueuePagesLog2 = 8 }));
        Assert.Throws<ArgumentOutOfRangeException>(() => platform.Start(options: new() { FaultBurst = 0 }));
    }

    private static PhysicalAddress FirmwareTranslation(TestPlatform platform)
    {
        IFrameAllocator frames = platform.Frames;
        Assert.True(frames.TryAllocate(FrameKind.UnitTable, 12, out PhysicalAddress root));
        Assert.True(frames.TryAllocate(FrameKind.UnitTable, 12, out PhysicalAddress contexts));
        Assert.True(frames.TryAllocate(FrameKind.UnitTable, 12, out PhysicalAddress top));
        Assert.True(frames.TryAllocate(FrameKind.UnitTable, 12, out PhysicalAddress queue));
        PhysicalAddress page = platform.Buffers(1)[0];
        PageTableRoot tables = new(top, 3, 48);
        Assert.True(PageTable<VtdSecondStage>.Map(
            platform.Memory, in tables, frames, new(0x5000), [page], DmaAccess.Read).IsDone);
        ContextEntry entry = ContextEntry.For(TranslationType.Translated, top, 3, 7);
        PhysicalAddress slot = ContextEntry.AddressOf(contexts, Device.Requester);
        platform.Memory.TryWrite64(slot + 8, entry.High);
        platform.Memory.TryWrite64(slot, entry.Low);
        platform.Memory.TryWrite64(RootEntry.AddressOf(root, 0), RootEntry.For(contexts).Low);
        RegisterWindow registers = platform.Unit.Registers;
        registers.Write64(VtdRegister.RootTableAddress, root.Value);
        registers.Write32(VtdRegister.GlobalCommand, VtdGlobal.SetRootTable);
        registers.Write64(VtdRegister.InvalidationQueueAddress, queue.Value);
        registers.Write32(VtdRegister.GlobalCommand, VtdGlobal.QueuedInvalidationEnable);
        registers.Write32(VtdRegister.GlobalCommand, VtdGlobal.QueuedInvalidationEnable | VtdGlobal.TranslationEnable);
        return page;
    }
}
