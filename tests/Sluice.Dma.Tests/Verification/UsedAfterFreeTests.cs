using static Sluice.Dma.VerificationRule;

namespace Sluice.Dma.Tests.Verification;

/// <summary>What was given back is used again: each kind once, and once while it still stands.</summary>
/// <remarks>Seen failing: exceptions and no rule, in all but the last.</remarks>
public sealed class UsedAfterFreeTests
{
    [Fact]
    public void Lists()
    {
        using VerificationLab lab = new();
        ScatterGatherLease list = lab.Get(lab.Buffer());
        Assert.True(list.Count > 0);
        list.Dispose();
        lab.BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => list[0]);
        DmaViolation broken = lab.Broke(UsedAfterFree);
        Assert.Equal((1L, "scatter/gather list #1 is used, and it was given back"),
            (broken.Mapping?.Number, broken.Line));
        Assert.Throws<InvalidOperationException>(() => lab.Adapter.DescribeTransfer(list));
        lab.Broke(UsedAfterFree);
        Assert.Throws<InvalidOperationException>(list.Dispose);
        lab.Broke(ListPutTwice);
        Assert.Throws<InvalidOperationException>(() => default(ScatterGatherLease).Count);
        Assert.Throws<InvalidOperationException>(default(ScatterGatherLease).Dispose);
        lab.BrokeNothing();
    }

    [Fact]
    public void CommonBuffersAndVectors()
    {
        using VerificationLab lab = new();
        CommonBuffer ring = lab.Adapter.AllocateCommonBuffer(5000);
        ring.Write32(0, 1);
        ring.Dispose();
        ring.Dispose();
        lab.BrokeNothing();
        Assert.Throws<ObjectDisposedException>(() => ring.Write32(0, 1));
        Assert.Equal(1L, lab.Broke(UsedAfterFree).Mapping?.Number);
        CommonBufferVector vector = lab.Adapter.AllocateCommonBufferVector(3, 100);
        vector[0].Write32(0, 1);
        vector.Free(0);
        lab.BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => vector[0]);
        lab.Broke(UsedAfterFree);
        Assert.Throws<InvalidOperationException>(() => vector.Free(0));
        lab.Broke(CommonBufferFreedTwice);
        Assert.Throws<InvalidOperationException>(vector.Close);
        lab.Broke(StillInUse);
        vector[1].Dispose();
        Assert.Throws<InvalidOperationException>(() => vector.Free(1));
        lab.Broke(CommonBufferFreedTwice);
        vector.FreeAll();
        vector.Close();
        lab.BrokeNothing();
    }

    [Fact]
    public void ChannelsAndReservations()
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer();
        Assert.True(lab.Adapter.TryAllocateChannel(2, out DmaChannel? channel));
        Assert.Equal(DmaFailure.None,
            channel.TryMap(mdl, 0, 8192, DmaDirection.ToDevice, out ScatterGatherLease list, out _));
        channel.Flush(list);
        channel.Dispose();
        channel.Dispose();
        lab.BrokeNothing();
        Assert.Throws<ObjectDisposedException>(() =>
            channel.TryMap(mdl, 0, 8192, DmaDirection.ToDevice, out _, out _));
        lab.Broke(UsedAfterFree);
        DmaReservation reservation = lab.Adapter.Reserve(8192);
        Assert.True(reservation.TryGetScatterGatherList(mdl, 0, 8192, DmaDirection.ToDevice, out list));
        list.Dispose();
        reservation.Dispose();
        lab.BrokeNothing();
        Assert.Throws<ObjectDisposedException>(() =>
            reservation.TryGetScatterGatherList(mdl, 0, 8192, DmaDirection.ToDevice, out _));
        lab.Broke(UsedAfterFree);
    }

    [Fact]
    public void Buffers()
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer();
        ScatterGatherLease list = lab.Get(mdl);
        mdl.Dispose();
        list.Dispose();
        lab.BrokeNothing();
        Assert.Throws<ObjectDisposedException>(() => lab.Get(mdl));
        lab.Broke(UsedAfterFree);
    }

    // Seen failing: pages counted as if the chain were its first MDL.
    [Fact]
    public void RegistersOfAChainAreThoseOfItsParts()
    {
        using VerificationLab lab = new();
        Mdl first = lab.Buffer(100, 4000), second = lab.Buffer(8192), third = lab.Buffer(10, 4090);
        (first.Next, second.Next) = (second, third);
        foreach ((uint offset, uint length, int pages) in new[]
        {
            (0u, 96u, 1), (0u, 97u, 2), (100u, 8192u, 2), (99u, 2u, 2), (100u + 4095, 2u, 2), (100u + 8191, 11u, 3),
        })
        {
            VerifiedRegisters registers = new(lab.Verifier, pages);
            Assert.True(registers.OnMap(first, offset, length, DmaDirection.ToDevice, VerificationLab.Site));
            Assert.Equal((pages, 1), (registers.Used, registers.Unflushed));
            lab.BrokeNothing();
            registers.Undo(first, offset);
            Assert.Equal((0, 0), (registers.Used, registers.Unflushed));
            registers = new(lab.Verifier, pages - 1);
            registers.OnMap(first, offset, length, DmaDirection.ToDevice, VerificationLab.Site);
            lab.Broke(MapRegisterFile, 2);
        }
        // A load that goes on in the page where the last one ended shares its register.
        VerifiedRegisters shared = new(lab.Verifier, 2);
        shared.OnMap(first, 100, 2048, DmaDirection.ToDevice, VerificationLab.Site);
        shared.OnMap(first, 2148, 4096, DmaDirection.ToDevice, VerificationLab.Site);
        Assert.Equal(2, shared.Used);
        Assert.True(shared.OnFlush(first, 100, 6144, DmaDirection.ToDevice, VerificationLab.Site));
        lab.BrokeNothing();
    }
}
