using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Sluice.Remapping;
using static Sluice.Dma.VerificationRule;

namespace Sluice.Dma.Tests.Verification;

/// <summary>Between get and put the buffer is the device's: what the processor does to it meanwhile is seen.</summary>
public sealed class OwnershipTests
{
    // Seen failing: only the first page hashed; the last bytes that fill no word left out.
    [Theory]
    [InlineData(0u)]
    [InlineData(4095u)]
    [InlineData(9000u)]
    [InlineData(20_000u)]
    public void ChangingABufferThatTheDeviceReadsIsSeenWhicheverByteItIs(uint at)
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer(20_001, 300);
        mdl.Next = lab.Buffer(100);
        ScatterGatherLease list = lab.Get(mdl, length: 20_050);
        lab.Poke(PageOf(mdl, at), 1);
        lab.Platform.TestClock.Nanoseconds += 70;
        list.Dispose();
        DmaViolation violation = lab.Broke(WrittenWhileMapped);
        Assert.Equal((1, 17u, 70), (violation.Mapping?.Number, violation.Mapping?.Tag, violation.AgeNanoseconds));
        Assert.Equal("ScatterGatherLease.Dispose", violation.Site.ToString());
    }

    [Fact]
    public void ChangingWhatLiesBesideTheBufferIsNobodysBusiness()
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer(8192);
        ScatterGatherLease list = lab.Get(mdl, offset: 100, length: 8000);
        lab.Poke(PageOf(mdl, 99), 1);
        lab.Poke(PageOf(mdl, 8100), 1);
        list.Dispose();
        ScatterGatherLease written = lab.Get(mdl, DmaDirection.FromDevice);
        lab.Poke(PageOf(mdl, 4000), 1);
        written.Dispose();
        lab.BrokeNothing();
    }

    [Theory]
    [InlineData(DmaDirection.FromDevice)]
    [InlineData(DmaDirection.Bidirectional)]
    [InlineData(DmaDirection.ToDevice)]
    public void WhereTheDeviceWorksOnACopyEveryChangeIsTheProcessors(DmaDirection direction)
    {
        using VerificationLab shadow = new(policy: InvalidationPolicy.Shadow);
        using VerificationLab guarded = new(new() { VerificationGuards = true });
        foreach (VerificationLab lab in new[] { shadow, guarded })
        {
            Mdl mdl = lab.Buffer(5000, 50);
            byte[] before = [.. Enumerable.Range(0, 5000).Select(static i => (byte)i)];
            mdl.CopyFrom(0, before);
            lab.Get(mdl, direction).Dispose();
            lab.BrokeNothing();
            byte[] after = new byte[5000];
            mdl.CopyTo(0, after);
            Assert.Equal(before, after);
            ScatterGatherLease list = lab.Get(mdl, direction);
            lab.Poke(PageOf(mdl, 4999), 0xEE);
            list.Dispose();
            lab.Broke(WrittenWhileMapped);
        }
    }

    [Fact]
    public void ReachingForABufferOfTheDeviceIsRefusedAndNoted()
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer();
        ScatterGatherLease list = lab.Get(mdl, DmaDirection.FromDevice, 0, 4096);
        mdl.CopyFrom(4096, [1]);
        lab.BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => mdl.CopyTo(4095, new byte[1]));
        Assert.Equal(1, lab.Broke(TouchedWhileMapped).Mapping?.Number);
        list.Dispose();
        mdl.CopyTo(4095, new byte[1]);
        lab.BrokeNothing();
    }

    [Fact]
    public void WhatTheDeviceWritesThroughGuardedPagesArrives()
    {
        using VerificationLab lab = new(new() { VerificationGuards = true }, InvalidationPolicy.Strict);
        Mdl mdl = lab.Buffer(3000, 4000);
        mdl.Next = lab.Buffer(3000, 1);
        ScatterGatherLease list = lab.Get(mdl, DmaDirection.FromDevice, 500, 5000);
        byte[] data = [.. Enumerable.Range(1, 5000).Select(static i => (byte)(i * 7))];
        Assert.Equal(1, list.Count);
        Assert.True(lab.Platform.DmaWrite(VerificationLab.Nvme, list[0].Address, data));
        byte[] early = new byte[3000];
        Assert.True(lab.Platform.Memory.TryRead(mdl.Next.Pages[0] + 1, early));
        Assert.Equal(new byte[3000], early);
        list.Dispose();
        byte[] seen = new byte[6000];
        mdl.CopyTo(0, seen);
        Assert.Equal([.. new byte[500], .. data, .. new byte[500]], seen);
        lab.BrokeNothing();
    }

    [Fact]
    public void ALeakedGuardedTransferKeepsItsPagesAndFreesTheDrivers()
    {
        using VerificationLab lab = new(new() { VerificationGuards = true });
        Mdl mdl = Mdl.Allocate(lab.Platform, 5000);
        PhysicalAddress page = mdl.Pages[0];
        LogicalAddress given = lab.Get(mdl)[0].Address;
        lab.Adapter.Dispose();
        lab.Broke(ListsOutstanding);
        mdl.Dispose();
        Assert.Equal(FrameKind.Free, lab.Platform.Frames.KindOf(page));
        Assert.Equal(FrameKind.Quarantined, lab.Platform.Frames.KindOf(new(given.Value)));
        Assert.Equal(4, lab.Platform.Frames.QuarantinedFrames);
        lab.System.Leaks[0].Release();
        Assert.Equal(0, lab.Platform.Frames.QuarantinedFrames);
        Assert.Equal(0, lab.Platform.TestFrames.Count(FrameKind.Buffer));
    }

    [Fact]
    public void GuardsDoNotHelpABufferThatTheDeviceCannotReach()
    {
        using VerificationLab lab = new(new() { VerificationGuards = true }, device: new() { AddressBits = 32 });
        PhysicalAddress high = new(TestPlatform.High);
        lab.Platform.TestFrames.Mark(high, FrameKind.Buffer);
        using Mdl mdl = Mdl.Borrow(lab.Platform, [high], 512);
        Assert.Equal(DmaFailure.Unreachable, Assert.Throws<DmaException>(() => lab.Get(mdl)).Failure);
        lab.BrokeNothing();
    }

    [Fact]
    public void WithoutMemoryForGuardsTransfersGoOnWithoutThem()
    {
        using VerificationLab lab = new(new() { VerificationGuards = true });
        Mdl mdl = lab.Buffer(4096);
        lab.Platform.TestFrames.Limit(3);
        ScatterGatherLease list = lab.Get(mdl);
        Assert.Equal(mdl.Pages[0].Value, list[0].Address.Value);
        list.Dispose();
        lab.BrokeNothing();
    }

    // The property refuses that; whoever writes past it, as a driver with a pointer can, is seen.
    [Fact]
    public void AChainThatChangesBetweenGetAndPutIsSeen()
    {
        using VerificationLab lab = new();
        Mdl mdl = lab.Buffer();
        Mdl other = lab.Buffer();
        ScatterGatherLease list = lab.Get(mdl, length: 100);
        Link(mdl) = other;
        Link(mdl) = null;
        list.Dispose();
        lab.BrokeNothing();
        list = lab.Get(mdl, length: 100);
        Assert.Throws<InvalidOperationException>(() => mdl.Next = other);
        Link(mdl) = other;
        list.Dispose();
        lab.Broke(MdlChanged, 2);
        Link(mdl) = null;
        Assert.Equal(0, lab.System.Verifier!.Pages.Count);
    }

    [UnsafeAccessor(UnsafeAccessorKind.Field, Name = "_next")]
    private static extern ref Mdl? Link(Mdl mdl);

    [Fact]
    public void PagesOfAnMdlThatChangeBetweenGetAndPutAreSeen()
    {
        using VerificationLab lab = new();
        Mdl mdl = Mdl.Borrow(lab.Platform, lab.Buffer().Pages, 8192);
        Span<PhysicalAddress> pages = MemoryMarshal.CreateSpan(ref MemoryMarshal.GetReference(mdl.Pages), 2);
        PhysicalAddress was = pages[1];
        ScatterGatherLease one = lab.Get(mdl, length: 4096);
        ScatterGatherLease two = lab.Get(mdl);
        pages[1] = lab.Buffer().Pages[0];
        one.Dispose();
        lab.BrokeNothing();
        two.Dispose();
        lab.Broke(MdlChanged, 3);
        pages[1] = was;
        Assert.Equal(0, lab.System.Verifier!.Pages.Count);
    }

    [Fact]
    public void APageThatIsFreedWhileTheDeviceReachesItIsSeen()
    {
        using VerificationLab lab = new();
        Assert.True(lab.Platform.Frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress page));
        using Mdl mdl = Mdl.Borrow(lab.Platform, [page], 4096);
        lab.Get(mdl, DmaDirection.FromDevice).Dispose();
        lab.BrokeNothing();
        ScatterGatherLease list = lab.Get(mdl, DmaDirection.FromDevice);
        lab.Platform.Frames.Free(page, 12);
        list.Dispose();
        Assert.Contains("became Free before the put", lab.Broke(FreedWhileMapped).Line, StringComparison.Ordinal);
    }

    private static PhysicalAddress PageOf(Mdl mdl, uint at)
    {
        uint position = at + (uint)mdl.ByteOffset;
        return mdl.Pages[(int)(position >> 12)] + (position & 4095);
    }
}
