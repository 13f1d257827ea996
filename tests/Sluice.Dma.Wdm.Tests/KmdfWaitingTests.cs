namespace Sluice.Dma.Wdm.Tests;

/// <summary>Transactions that wait for their turn, and what becomes of them when it comes.</summary>
public sealed class KmdfWaitingTests
{
    private static WdfDmaEnabler Enabler(Lab lab, WdfDmaEnablerConfig config)
    {
        Assert.Equal(NtStatus.Success, WdfDmaEnabler.Create(lab.Dma, lab.Device, config, out WdfDmaEnabler? enabler));
        return enabler!;
    }

    // Seen failing: the channel kept for ever by a transaction that could not be mapped when it got it.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void APacketThatCannotBeMappedInItsTurnLetsTheNextIn(string backend)
    {
        using Lab lab = new(backend);
        using WdfDmaEnabler enabler = Enabler(lab, new() { Profile = WdfDmaProfile.Packet64, MaximumLength = 4096 });
        Mdl good = lab.Buffer(4096), bad = lab.Buffer(4096);
        WdfDmaTransaction first = new(enabler), second = new(enabler), third = new(enabler);
        List<WdfDmaTransaction> programmed = [];
        foreach (WdfDmaTransaction transaction in new[] { first, second, third })
        {
            Assert.Equal(NtStatus.Success, transaction.Initialize(
                (t, _, _, _) => { programmed.Add(t); return true; }, true, transaction == second ? bad : good, 0,
                4096));
            Assert.Equal(NtStatus.Success, transaction.Execute(null));
        }
        lab.Platform.TestFrames.Mark(bad.Pages[0], FrameKind.Kernel);
        Assert.True(first.DmaCompleted(out NtStatus status));
        Assert.Equal([first, third], programmed);
        Assert.True(third.DmaCompleted(out status));
        Assert.Equal(NtStatus.Success, status);
        // What failed is over and may be used again.
        lab.Platform.TestFrames.Mark(bad.Pages[0], FrameKind.Buffer);
        Assert.Equal(NtStatus.Success, second.Initialize(
            (t, _, _, _) => { programmed.Add(t); return true; }, true, bad, 0, 4096));
        Assert.Equal(NtStatus.Success, second.Execute(null));
        Assert.True(second.DmaCompleted(out status));
        Assert.Equal([first, third, second], programmed);
        Assert.Equal(0, enabler.Adapter.Adapter.Statistics.Outstanding);
    }

    // Seen failing: a transfer that could not be mapped when it had waited was told to nobody.
    [Theory]
    [MemberData(nameof(KmdfTests.Profiles), MemberType = typeof(KmdfTests))]
    public void WhatCannotBeMappedInItsTurnIsToldOnceAndSaysWhy(string backend, WdfDmaProfile profile)
    {
        using Lab lab = new(backend, registers: 4);
        using WdfDmaEnabler enabler = Enabler(lab, new() { Profile = profile, MaximumLength = 4096 });
        Mdl good = lab.Buffer(4096), bad = lab.Buffer(4096), all = lab.Buffer(3 * 4096);
        WdfDmaTransaction transaction = new(enabler);
        (int programmed, List<(DmaCompletionStatus, object?, bool, Irql, NtStatus)> told) = (0, []);
        for (int round = 0; round < 3; round++)
        {
            // Everything is taken, the channel too.
            ScatterGatherList held = lab.List(enabler.Adapter, all, 0, 4096, true);
            Assert.True(enabler.Adapter.Adapter.TryAllocateChannel(
                Math.Min(3, enabler.Adapter.Adapter.MostMapRegisters), out DmaChannel? channel));
            Assert.Equal(NtStatus.Success, Begin(bad));
            transaction.SetTransferCompleteCallback((t, device, context, write, how) =>
            {
                Assert.Same(lab.Device, device);
                Assert.Equal(0u, t.CurrentTransferLength);
                Assert.Throws<InvalidOperationException>(t.Release);
                bool over = round switch
                {
                    0 => t.DmaCompleted(out NtStatus why) && Said(why),
                    1 => t.DmaCompletedWithLength(0, out NtStatus why) && Said(why),
                    _ => t.DmaCompletedFinal(0, out NtStatus why) && Said(why),
                };
                Assert.True(over);
                bool Said(NtStatus why)
                {
                    told.Add((how, context, write, IrqlScheduler.Level, why));
                    return true;
                }
                // It holds nothing: the next I/O begins from here, and waits like any other.
                t.Release();
                Assert.Equal(NtStatus.Success, Begin(good));
            }, "context");
            lab.Platform.TestFrames.Mark(bad.Pages[0], FrameKind.Kernel);
            channel.Dispose();
            lab.Put(enabler.Adapter, held, true);
            lab.Platform.TestFrames.Mark(bad.Pages[0], FrameKind.Buffer);
            Assert.Equal((round + 1, round + 1), (told.Count, programmed));
            Assert.Equal(
                (DmaCompletionStatus.Error, "context", true, Irql.Dispatch, NtStatus.AccessDenied), told[^1]);
            Assert.True(transaction.DmaCompleted(out NtStatus status));
            Assert.Equal((NtStatus.Success, 4096u), (status, transaction.BytesTransferred));
            Assert.Equal(0, enabler.Adapter.Adapter.Statistics.Outstanding);
            transaction.Release();
        }

        NtStatus Begin(Mdl mdl)
        {
            Assert.Equal(NtStatus.Success, transaction.Initialize(
                (_, _, _, _) => { programmed++; return true; }, true, mdl, 0, 4096));
            return transaction.Execute(null);
        }
    }

    // Seen failing: the channel kept by a transaction whose buffer was disposed while it waited, and the exception in
    // another driver's call.
    [Theory]
    [MemberData(nameof(KmdfTests.Profiles), MemberType = typeof(KmdfTests))]
    public void ABufferThatIsGoneIsToldToItsOwnDriverAlone(string backend, WdfDmaProfile profile)
    {
        using Lab lab = new(backend, registers: 4);
        using WdfDmaEnabler enabler = Enabler(lab, new() { Profile = profile, MaximumLength = 4096 });
        Mdl gone = lab.Buffer(4096), all = lab.Buffer(3 * 4096);
        WdfDmaTransaction transaction = new(enabler);
        List<NtStatus> told = [];
        ScatterGatherList held = lab.List(enabler.Adapter, all, 0, 4096, true);
        Assert.True(enabler.Adapter.Adapter.TryAllocateChannel(
            Math.Min(3, enabler.Adapter.Adapter.MostMapRegisters), out DmaChannel? channel));
        Assert.Equal(NtStatus.Success, transaction.Initialize(static (_, _, _, _) => true, true, gone, 0, 4096));
        transaction.SetTransferCompleteCallback((t, _, _, _, _) =>
        {
            Assert.True(t.DmaCompleted(out NtStatus why));
            told.Add(why);
        }, null);
        Assert.Equal(NtStatus.Success, transaction.Execute(null));
        gone.Dispose();
        channel.Dispose();
        lab.Put(enabler.Adapter, held, true);
        Assert.Equal([NtStatus.AccessDenied], told);
        transaction.Release();
        if (profile == WdfDmaProfile.Packet64)
        {
            // In its own call it is thrown, and nothing is kept either.
            Assert.Equal(NtStatus.Success, transaction.Initialize(static (_, _, _, _) => true, true, gone, 0, 4096));
            Assert.Throws<ObjectDisposedException>(() => transaction.Execute(null));
        }
        Assert.True(enabler.Adapter.Adapter.TryAllocateChannel(1, out channel));
        channel.Dispose();
        Assert.Equal(NtStatus.Success, transaction.Initialize(static (_, _, _, _) => true, true, all, 0, 4096));
        Assert.Equal(NtStatus.Success, transaction.Execute(null));
        Assert.True(transaction.DmaCompleted(out _));
        Assert.Equal(0, enabler.Adapter.Adapter.Statistics.Outstanding);
    }

    // Seen failing: success from the call, and the reason by the callback before the call had returned.
    [Theory]
    [MemberData(nameof(KmdfTests.Profiles), MemberType = typeof(KmdfTests))]
    public void WhatCannotBeMappedAtOnceIsSaidByTheCallAlone(string backend, WdfDmaProfile profile)
    {
        using Lab lab = new(backend);
        using WdfDmaEnabler enabler = Enabler(lab, new() { Profile = profile, MaximumLength = 4096 });
        Mdl mdl = lab.Buffer(8192);
        WdfDmaTransaction transaction = new(enabler);
        int told = 0;
        for (int bad = 0; bad < 2; bad++)
        {
            lab.Platform.TestFrames.Mark(mdl.Pages[bad], FrameKind.Kernel);
            Assert.Equal(NtStatus.Success, transaction.Initialize(static (_, _, _, _) => true, true, mdl, 0, 8192));
            transaction.SetTransferCompleteCallback((_, _, _, _, _) => told++, null);
            NtStatus status = transaction.Execute(null);
            if (bad == 1)
            {
                Assert.Equal(NtStatus.Success, status);
                Assert.True(transaction.DmaCompleted(out status));
            }
            Assert.Equal((NtStatus.AccessDenied, 0), (status, told));
            transaction.Release();
            lab.Platform.TestFrames.Mark(mdl.Pages[bad], FrameKind.Buffer);
            Assert.True(enabler.Adapter.Adapter.TryAllocateChannel(1, out DmaChannel? channel));
            channel.Dispose();
        }
    }

    // Seen failing: what the inner call had said of the second transfer was said again by the outer one of the first.
    [Theory]
    [MemberData(nameof(KmdfTests.Profiles), MemberType = typeof(KmdfTests))]
    public void AnExecuteWhoseCallbackRanSaysSuccessWhateverBecomesOfTheNext(string backend, WdfDmaProfile profile)
    {
        using Lab lab = new(backend);
        using WdfDmaEnabler enabler = Enabler(lab, new() { Profile = profile, MaximumLength = 4096 });
        Mdl mdl = lab.Buffer(8192);
        WdfDmaTransaction transaction = new(enabler);
        lab.Platform.TestFrames.Mark(mdl.Pages[1], FrameKind.Kernel);
        (bool over, NtStatus next) = (false, NtStatus.Success);
        Assert.Equal(NtStatus.Success, transaction.Initialize((t, _, _, _) =>
        {
            over = t.DmaCompleted(out next);
            return true;
        }, true, mdl, 0, 8192));
        Assert.Equal(NtStatus.Success, transaction.Execute(null));
        Assert.Equal((true, NtStatus.AccessDenied), (over, next));
        Assert.Equal(4096u, transaction.BytesTransferred);
        lab.Platform.TestFrames.Mark(mdl.Pages[1], FrameKind.Buffer);
        Assert.Equal(0, enabler.Adapter.Adapter.Statistics.Outstanding);
    }

    // Seen failing: an immediate transaction queued.
    [Theory]
    [MemberData(nameof(KmdfTests.Profiles), MemberType = typeof(KmdfTests))]
    public void WhatIsToBeExecutedImmediatelyBeginsAtOnceOrFails(string backend, WdfDmaProfile profile)
    {
        using Lab lab = new(backend, registers: 4);
        using WdfDmaEnabler enabler = Enabler(lab, new() { Profile = profile, MaximumLength = 4096 });
        Mdl mdl = lab.Buffer(3 * 4096);
        WdfDmaTransaction transaction = new(enabler);
        int programmed = 0;
        ScatterGatherList held = lab.List(enabler.Adapter, mdl, 0, 4096, true);
        Assert.True(enabler.Adapter.Adapter.TryAllocateChannel(
            Math.Min(3, enabler.Adapter.Adapter.MostMapRegisters), out DmaChannel? channel));
        Assert.Equal(NtStatus.InsufficientResources, Execute(immediate: true));
        channel.Dispose();
        lab.Put(enabler.Adapter, held, true);
        Assert.Equal(0, programmed);
        Assert.Equal(NtStatus.Success, Execute(immediate: true));
        Assert.Equal(1, programmed);
        Assert.False(transaction.DmaCompleted(out _));
        Assert.True(transaction.DmaCompleted(out NtStatus status));
        Assert.Equal((NtStatus.Success, 8192u), (status, transaction.BytesTransferred));
        // Release forgets it.
        transaction.Release();
        held = lab.List(enabler.Adapter, mdl, 0, 4096, true);
        Assert.True(enabler.Adapter.Adapter.TryAllocateChannel(
            Math.Min(3, enabler.Adapter.Adapter.MostMapRegisters), out channel));
        Assert.Equal(NtStatus.Success, Execute(immediate: false));
        Assert.True(transaction.Cancel());
        channel.Dispose();
        lab.Put(enabler.Adapter, held, true);

        NtStatus Execute(bool immediate)
        {
            Assert.Equal(NtStatus.Success, transaction.Initialize(
                (_, _, _, _) => { programmed++; return true; }, true, mdl, 0, 8192));
            if (immediate) { transaction.SetImmediateExecution(true); }
            return transaction.Execute(null);
        }
    }

    // Seen failing: a transaction that was stopped once refused every later I/O through the registers it had set aside.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void AStopEndsOneIoAndNotThoseThatFollow(string backend)
    {
        FifoDmaController? controller = null;
        using Lab lab = new(backend, makeController: p => controller = new(p, Lab.Slot, 1) { AddressBits = 64 });
        using WdfDmaEnabler enabler = Enabler(lab, new()
        {
            Profile = WdfDmaProfile.System,
            MaximumLength = 8192,
            SystemDevice = new() { Version = 3 },
        });
        Mdl mdl = lab.Buffer(8192);
        WdfDmaTransaction transaction = new(enabler);
        Assert.Equal(NtStatus.Success, transaction.AllocateResources(2));
        for (int round = 0; round < 3; round++)
        {
            controller!.Fifo(0).Clear();
            Assert.Equal(NtStatus.Success,
                transaction.Initialize(static (_, _, _, _) => true, true, mdl, 0, 8192));
            Assert.Equal(NtStatus.Success, transaction.Execute(null));
            controller.Step(0, 100);
            transaction.StopSystemTransfer();
            Assert.Equal(0u, controller.Step(0, 100));
            Assert.True(transaction.DmaCompletedWithLength(100, out NtStatus status));
            Assert.Equal(NtStatus.Cancelled, status);
        }
        transaction.FreeResources();
    }

    // Seen failing: an I/O past 4 GiB of its chain accepted, and refused in its middle.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void AnIoEndsWithinTheFirst4GiBOfItsChain(string backend)
    {
        using Lab lab = new(backend);
        using WdfDmaEnabler enabler = Enabler(
            lab, new() { Profile = WdfDmaProfile.ScatterGather64, MaximumLength = 4096 });
        Mdl page = lab.Buffer(4096);
        PhysicalAddress[] pages = [.. Enumerable.Repeat(page.Pages[0], 1 << 19)];
        using Mdl low = Mdl.Borrow(lab.Platform, pages, 1u << 31), middle = Mdl.Borrow(lab.Platform, pages, 1u << 31);
        using Mdl high = Mdl.Borrow(lab.Platform, pages.AsSpan(0, 2), 8192);
        (low.Next, middle.Next) = (middle, high);
        WdfDmaTransaction transaction = new(enabler);
        const ulong FourGiB = 1UL << 32;
        foreach ((ulong offset, uint length) in new[] { (FourGiB - 4096, 4097u), (FourGiB - 1, 2u), (FourGiB, 1u) })
        {
            Assert.Equal(NtStatus.InvalidParameter, Initialize(offset, length));
        }
        Assert.Equal(NtStatus.Success, Initialize(FourGiB - 8192, 8192));
        Assert.Equal(NtStatus.Success, transaction.Execute(null));
        Assert.False(transaction.DmaCompleted(out NtStatus status));
        Assert.True(transaction.DmaCompleted(out status));
        Assert.Equal((NtStatus.Success, 8192u), (status, transaction.BytesTransferred));

        NtStatus Initialize(ulong offset, uint length) =>
            transaction.Initialize(static (_, _, _, _) => true, true, low, offset, length);
    }
}
