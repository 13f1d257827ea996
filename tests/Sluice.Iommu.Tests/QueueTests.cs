using Sluice.Iommu.Vtd;

namespace Sluice.Iommu.Tests;

/// <summary>
/// The invalidation queue: order, wrap, every error and its recovery, completion status and interrupt.
/// </summary>
public sealed class QueueTests
{
    private const ushort Disk = 0x0020;
    private const ulong Address = 0x4000_0000;

    private static (ulong, ulong) Wait(uint data, ulong flags = 0x20) => (5 | flags | ((ulong)data << 32), Rig.Status);

    private static Rig Running(out ulong leaf, VtdOptions? options = null)
    {
        Rig rig = new(options);
        leaf = rig.Map(rig.Attach(Disk, 5), 3, Address, 0x80_0000);
        rig.Enable();
        return rig;
    }

    // Golden descriptors, one per legacy type and granularity. Seen failing: context granularity 3 refused.
    [Theory]
    [InlineData(0x0000_0000_0000_0011UL, 0UL)]
    [InlineData(0x0000_0000_0005_0021UL, 0UL)]
    [InlineData(0x0003_0020_0005_0031UL, 0UL)]
    [InlineData(0x0000_0000_0000_00D2UL, 0UL)]
    [InlineData(0x0000_0000_0005_00E2UL, 0UL)]
    [InlineData(0x0000_0000_0005_00F2UL, 0x4000_0040UL)]
    [InlineData(0x0000_0000_0005_0032UL, 0x4000_0012UL)]
    [InlineData(0x0000_0000_0000_0004UL, 0UL)]
    [InlineData(0x0000_0007_1800_0014UL, 0UL)]
    [InlineData(0x0000_0000_0000_0045UL, 0UL)]
    public void EveryLegacyDescriptorIsExecuted(ulong low, ulong high)
    {
        using Rig rig = Running(out _);
        rig.SubmitAndWait((low, high));
        Assert.Equal(0x20UL, rig.Registers.Read64(0x80));
        Assert.Equal(0u, rig.FaultStatus);
    }

    // The error must name its kind, leave the head on the culprit, and run nothing after it.
    // Seen failing: the head moved past the error; type bits 11:9 ignored; AM compared with 63 instead of MAMV.
    [Theory]
    [InlineData(0x0UL, 0UL, 3)]
    [InlineData(0x8UL, 0UL, 3)]
    [InlineData(0x6UL, 0UL, 3)]
    [InlineData(0x3UL, 0UL, 3)]
    [InlineData(0x205UL, 0UL, 3)]
    [InlineData(0x01UL, 0UL, 4)]
    [InlineData(0x02UL, 0UL, 4)]
    [InlineData(0x51UL, 0UL, 4)]
    [InlineData(0x0004_0000_0000_0011UL, 0UL, 4)]
    [InlineData(0x11UL, 1UL, 4)]
    [InlineData(0x0000_0001_0000_0012UL, 0UL, 4)]
    [InlineData(0x112UL, 0UL, 4)]
    [InlineData(0x32UL, 0x80UL, 4)]
    [InlineData(0x32UL, 19UL, 4)]
    [InlineData(0x24UL, 0UL, 4)]
    [InlineData(0x125UL, 0UL, 4)]
    [InlineData(0x25UL, 1UL, 4)]
    [InlineData(0x25UL, 0x7FFF_F000_0000UL, 2)]
    public void AMalformedDescriptorStopsTheQueueWhereItIs(ulong low, ulong high, int information)
    {
        using Rig rig = Running(out ulong leaf);
        rig.Registers.Write32(0x3C, 0x31);
        rig.Registers.Write32(0x40, 0xFEE0_0000);
        rig.Registers.Write32(0x38, 0);
        Assert.Equal(0x80_0000UL, rig.Physical(Disk, Address));
        rig.Poke(leaf, 0x90_0003);

        rig.Submit(Wait(1), (low, high), (0x12UL, 0UL), Wait(2));
        Assert.Equal(1UL, rig.Peek(Rig.Status));
        Assert.Equal(0x10UL, rig.Registers.Read64(0x80));
        Assert.Equal(0x10u, rig.FaultStatus);
        Assert.Equal((ulong)information, rig.Registers.Read64(0xB0));
        Assert.Equal([new MsiMessage(new(0xFEE0_0000), 0x31)], rig.Delivered);
        Assert.Equal(0x80_0000UL, rig.Physical(Disk, Address));

        // Stopped until the error is cleared, whatever happens to the tail.
        rig.Registers.Write64(0x88, 0x50);
        Assert.Equal(0x10UL, rig.Registers.Read64(0x80));

        // The way Linux recovers: put something harmless there, clear the error.
        rig.Poke(Rig.Queue + 0x40, 0x45);
        rig.Poke(Rig.Queue + 0x10, 0x45);
        rig.Poke(Rig.Queue + 0x18, 0);
        rig.Registers.Write32(0x34, 0x10);
        Assert.Equal(0x50UL, rig.Registers.Read64(0x80));
        Assert.Equal(2UL, rig.Peek(Rig.Status));
        Assert.Equal((0u, 0UL), (rig.FaultStatus, rig.Registers.Read64(0xB0)));
        Assert.Equal(0x90_0000UL, rig.Physical(Disk, Address));
        Assert.Equal((4L, 1L), (rig.Unit.Counters.Waits, rig.Unit.Counters.QueueErrors));
    }

    [Fact]
    public void ClearingTheErrorWithoutMendingItStopsAgain()
    {
        using Rig rig = Running(out _);
        rig.Submit((0xFUL, 0UL));
        rig.Registers.Write32(0x34, 0x10);
        Assert.Equal((0x10u, 2L), (rig.FaultStatus, rig.Unit.Counters.QueueErrors));
    }

    [Fact]
    public void ATailBeyondTheQueueIsAnError()
    {
        using Rig rig = Running(out _);
        rig.Registers.Write64(0x88, 0x1000);
        Assert.Equal((0x10u, 1UL, 0UL), (rig.FaultStatus, rig.Registers.Read64(0xB0), rig.Registers.Read64(0x80)));
        rig.Registers.Write64(0x88, 0);
        rig.Registers.Write32(0x34, 0x10);
        rig.SubmitAndWait((0x12UL, 0UL));
    }

    [Fact]
    public void AQueueWhereThereIsNoMemoryIsAnError()
    {
        using Rig rig = new();
        rig.Registers.Write64(0x90, 0x7FFF_F000_0000);
        rig.Registers.Write32(0x18, 1u << 26);
        rig.Registers.Write64(0x88, 0x10);
        Assert.Equal((0x10u, 2UL), (rig.FaultStatus, rig.Registers.Read64(0xB0)));
    }

    // Sizes 2^0 to 2^2 pages, several times round. Seen failing, by never ending: the head masked with one page.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void TheQueueWrapsAtItsSize(int sizeLog2)
    {
        using Rig rig = new();
        rig.Registers.Write64(0x90, Rig.Queue | (uint)sizeLog2);
        rig.Registers.Write32(0x18, 1u << 26);
        int slots = 256 << sizeLog2;
        Random random = new(sizeLog2);
        for (int done = 0; done < 3 * slots;)
        {
            int batch = random.Next(1, slots - 1);
            (ulong, ulong)[] descriptors = new (ulong, ulong)[batch];
            Array.Fill(descriptors, (0x12UL, 0UL));
            rig.SubmitAndWait(descriptors);
            done += batch + 1;
            Assert.Equal((ulong)(done % slots * 16), rig.Registers.Read64(0x80));
            Assert.Equal(done, rig.Unit.Counters.IotlbInvalidations + rig.Unit.Counters.Waits);
        }
    }

    [Fact]
    public void EnablingRunsWhatIsQueuedAndDisablingResetsTheHead()
    {
        using Rig rig = new();
        rig.Registers.Write64(0x90, Rig.Queue);
        rig.Poke(Rig.Queue, 0x25 | 77UL << 32);
        rig.Poke(Rig.Queue + 8, Rig.Status);
        rig.Registers.Write64(0x88, 0x10);
        Assert.Equal(0UL, rig.Peek(Rig.Status));
        rig.Registers.Write32(0x18, 1u << 26);
        Assert.Equal((77UL, 0x10UL), (rig.Peek(Rig.Status), rig.Registers.Read64(0x80)));
        rig.Registers.Write64(0x90, 0x8000);
        Assert.Equal(0x10UL, rig.Registers.Read64(0x80));
        rig.Registers.Write32(0x18, 0);
        Assert.Equal((0UL, 0u), (rig.Registers.Read64(0x80), rig.Registers.Read32(0x1C)));
    }

    // Seen failing: a second interrupt while ICS was set; IP left set after ICS was cleared.
    [Fact]
    public void TheCompletionInterruptIsSentOncePerServedStatusAndHeldWhileMasked()
    {
        using Rig rig = Running(out _);
        rig.Registers.Write64(0xA8, 0xFEE0_2000);
        rig.Registers.Write32(0xA4, 0x52);
        rig.Submit(Wait(1, 0x30));
        Assert.Equal((1u, 0xC000_0000u), (rig.Registers.Read32(0x9C), rig.Registers.Read32(0xA0)));
        Assert.Empty(rig.Delivered);
        rig.Registers.Write32(0xA0, 0);
        Assert.Equal([new MsiMessage(new(0xFEE0_2000), 0x52)], rig.Delivered);
        Assert.Equal(0u, rig.Registers.Read32(0xA0));
        rig.Submit(Wait(2, 0x30), Wait(3, 0x30));
        Assert.Single(rig.Delivered);
        rig.Registers.Write32(0x9C, 1);
        rig.Submit(Wait(4, 0x10));
        Assert.Equal((2, 3UL), (rig.Delivered.Count, rig.Peek(Rig.Status)));

        rig.Registers.Write32(0x9C, 1);
        rig.Registers.Write32(0xA0, 1u << 31);
        rig.Submit(Wait(5, 0x30));
        Assert.Equal(0xC000_0000u, rig.Registers.Read32(0xA0));
        rig.Registers.Write32(0x9C, 1);
        Assert.Equal(0x8000_0000u, rig.Registers.Read32(0xA0));
        rig.Registers.Write32(0xA0, 0);
        Assert.Equal(2, rig.Delivered.Count);
    }
}
