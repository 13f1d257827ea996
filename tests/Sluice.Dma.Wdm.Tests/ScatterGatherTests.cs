namespace Sluice.Dma.Wdm.Tests;

/// <summary>Rows 11 to 15: lists.</summary>
public sealed class ScatterGatherTests
{
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T07_ParallelRequestsOfOneAdapterAllSucceed(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(64 << 10);
        List<(Mdl Mdl, ScatterGatherList List)> all = [];
        for (int i = 0; i < 20; i++)
        {
            Mdl mdl = lab.Buffer(10_000, i * 100, i);
            all.Add((mdl, lab.List(adapter, mdl, 0, 10_000, writeToDevice: true)));
        }
        Assert.All(all, pair => Assert.Equal(Lab.Bytes(pair.Mdl, 0, 10_000), lab.DeviceReads(pair.List)));
        all.ForEach(pair => lab.Put(adapter, pair.List, writeToDevice: true));
        Assert.Equal(0, adapter.Adapter.Statistics.Outstanding);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T07_AChainOfThreeWithOddOffsetsIsOneBuffer(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(64 << 10);
        Mdl chain = lab.Chain((5000, 123), (1, 4095), (9001, 7));
        ScatterGatherList list = lab.List(adapter, chain, 4990, 8000, writeToDevice: false);
        byte[] data = Lab.Random(8000, 99);
        lab.DeviceWrites(list, data);
        lab.Put(adapter, list, writeToDevice: false);
        Assert.Equal(data, Lab.Bytes(chain, 4990, 8000));
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T07_WhatCannotBeServedIsAStatusAndNoCallback(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(8192);
        Assert.Equal(3, adapter.NumberOfMapRegisters);
        Mdl mdl = lab.Buffer(5 * 4096);
        VirtualAddress start = VirtualAddress.Of(mdl);
        Assert.Equal(NtStatus.InsufficientResources, Ask(start, 4 * 4096));
        Assert.Equal(NtStatus.InsufficientResources, Ask(start + 1, 3 * 4096));
        Assert.Equal(NtStatus.BufferTooSmall, Ask(start + 16384, 4097));
        Assert.Equal(NtStatus.InvalidParameter, Ask(start, 0));
        Assert.Equal(NtStatus.InvalidParameter, Ask(start + (5 * 4096), 1));
        Assert.Equal(NtStatus.InvalidParameter, Ask(new(start.Value - 1), 1));
        lab.Platform.TestFrames.Mark(mdl.Pages[1], FrameKind.Kernel);
        Assert.Equal(NtStatus.AccessDenied, Ask(start, 8192));
        lab.Platform.TestFrames.Mark(mdl.Pages[1], FrameKind.Buffer);
        adapter.PutDmaAdapter();

        NtStatus Ask(VirtualAddress va, uint length) => lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, va, length, (_, _, _, _) => Assert.Fail("called back after an error"), null, true));
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T07_TheCallbackGetsTheIrpOfTheRequestAndItsContextAtDispatch(string backend)
    {
        using Lab lab = new(backend, registers: 4);
        WdmAdapter adapter = lab.Get(3 * 4096);
        Mdl mdl = lab.Buffer(4 * 4096);
        ScatterGatherList held = lab.List(adapter, mdl, 0, 4 * 4096, true);
        List<(Irp? Irp, object? Context, Irql Level, WdmDeviceObject Device)> seen = [];
        for (int i = 0; i < 3; i++)
        {
            lab.Device.CurrentIrp = new(i);
            Assert.Equal(NtStatus.Success, lab.AtDispatch(() => adapter.GetScatterGatherList(
                lab.Device, mdl, VirtualAddress.Of(mdl), 4 * 4096,
                (device, irp, list, context) =>
                {
                    seen.Add((irp, context, IrqlScheduler.Level, device));
                    adapter.PutScatterGatherList(list, true);
                }, i, true)));
        }
        lab.Device.CurrentIrp = null;
        Assert.Empty(seen);
        lab.Put(adapter, held, true);
        Assert.Equal([0, 1, 2], seen.Select(static s => s.Context));
        Assert.Equal([0, 1, 2], seen.Select(static s => s.Irp!.Context));
        Assert.All(seen, s => Assert.Equal((Irql.Dispatch, lab.Device), (s.Level, s.Device)));
        adapter.PutDmaAdapter();
    }

    // Seen failing: a put that did not look at the direction.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T08_AListIsPoisonAfterPut(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(8192);
        Mdl mdl = lab.Buffer(8192);
        ScatterGatherList list = lab.List(adapter, mdl, 0, 8192, false);
        LogicalAddress address = list[0].Address;
        lab.Put(adapter, list, false);
        Assert.Throws<InvalidOperationException>(() => list[0]);
        Assert.Throws<InvalidOperationException>(() => list.NumberOfElements);
        Assert.Throws<InvalidOperationException>(() => lab.Put(adapter, list, false));
        // The same again: its record may be used again, the old list stays poison.
        ScatterGatherList next = lab.List(adapter, mdl, 0, 8192, false);
        Assert.Throws<InvalidOperationException>(() => list[0]);
        Assert.Throws<InvalidOperationException>(() => lab.Put(adapter, next, writeToDevice: true));
        lab.Put(adapter, next, false);
        if (lab.Name == "remapping")
        {
            byte[] before = Lab.Bytes(mdl, 0, 8192);
            Assert.False(lab.Platform.DmaWrite(Lab.Slot, address, new byte[16]));
            Assert.Equal(before, Lab.Bytes(mdl, 0, 8192));
        }
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T09_TheWorstBufferBoundsEveryBuffer(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(12 * 4096);
        for (int seed = 0; seed < 200; seed++)
        {
            Random random = new(seed);
            (uint, int)[] parts = [.. Enumerable.Range(0, random.Next(1, 6)).Select(_ =>
                (random.Next(3) == 0 ? (uint)random.Next(1, 4) : (uint)random.Next(1, 9000), random.Next(4096)))];
            using TestPlatform platform = new(seed, 1 << 19);
            Mdl[] all = [.. parts.Select(p => Mdl.Allocate(platform, p.Item1, p.Item2))];
            for (int i = 1; i < all.Length; i++) { all[i - 1].Next = all[i]; }
            uint offset = (uint)random.Next((int)all[0].ByteCount);
            uint length = (uint)random.Next(1, (int)(all[0].ChainByteCount - offset) + 1);
            NtStatus exact = adapter.CalculateScatterGatherListSize(
                all[0], VirtualAddress.Of(all[0]) + offset, length, out int size, out int registers);
            NtStatus worst = adapter.CalculateScatterGatherListSize(
                null, VirtualAddress.Null, length, out int worstSize, out int worstRegisters);
            if (exact.IsSuccess())
            {
                Assert.Equal(NtStatus.Success, worst);
                Assert.True(worstSize >= size && worstRegisters >= registers);
                Assert.True(size >= 16 + (registers * 24), "the list alone takes that much");
            }
            else { Assert.Equal((NtStatus.InsufficientResources, 0, 0), (exact, size, registers)); }
        }
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T09_BuildTakesExactlyThatSizeAndAllocatesNothing(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(64 * 4096);
        Mdl mdl = lab.Buffer(64 * 4096, 5);
        VirtualAddress va = VirtualAddress.Of(mdl);
        Assert.Equal(NtStatus.Success,
            adapter.CalculateScatterGatherListSize(mdl, va, 64 * 4096, out int size, out int registers));
        Assert.Equal(65, registers);
        ScatterGatherBuffer exact = new(adapter, size), less = new(adapter, size - 1);
        ScatterGatherList? got = null;
        DriverListControl routine = (_, _, list, _) => got = list;
        using (IrqlScheduler.RaiseTo(Irql.Dispatch))
        {
            Assert.Equal(NtStatus.BufferTooSmall,
                adapter.BuildScatterGatherList(lab.Device, mdl, va, 64 * 4096, routine, null, true, less));
            // Once for the compiler; then no frame may be taken, and nothing of the heap. The runtime may enlarge a
            // table of its own once.
            int allocating = 0;
            for (int round = 0; round < 50; round++)
            {
                lab.Platform.TestFrames.Limit(0);
                long before = HeapMeter.Now;
                NtStatus status = adapter.BuildScatterGatherList(
                    lab.Device, mdl, va, 64 * 4096, routine, null, true, exact);
                long allocated = HeapMeter.Now - before;
                Assert.Equal(NtStatus.Success, status);
                Assert.Same(exact.List, got);
                if (round == 0) { Assert.Equal(Lab.Bytes(mdl, 0, 64 * 4096), lab.DeviceReads(got!)); }
                else if (allocated != 0) { allocating++; }
                adapter.PutScatterGatherList(got!, true);
            }
            Assert.InRange(allocating, 0, 1);
        }
        lab.Platform.TestFrames.Limit(int.MaxValue);
        adapter.PutDmaAdapter();
    }

    // Seen failing: nothing set aside under remapping.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T09_WithoutMemoryOneIsInFlightAndTheOthersFollowInOrder(string backend)
    {
        using Lab lab = new(backend, bytesPerBank: 8 << 20);
        // Under remapping so long that each list takes a table of its own.
        uint length = lab.IsRemapped ? 513 * 4096u : 8 * 4096;
        WdmAdapter adapter = lab.Get(length);
        Mdl mdl = lab.Buffer(length);
        VirtualAddress va = VirtualAddress.Of(mdl);
        adapter.CalculateScatterGatherListSize(mdl, va, length, out int size, out _);
        ScatterGatherBuffer[] buffers =
            [.. Enumerable.Range(0, 10).Select(_ => new ScatterGatherBuffer(adapter, size))];
        Queue<ScatterGatherList> live = new();
        List<object?> order = [];
        lab.Platform.TestFrames.Limit(0);
        using (IrqlScheduler.RaiseTo(Irql.Dispatch))
        {
            for (int i = 0; i < buffers.Length; i++)
            {
                Assert.Equal(NtStatus.Success, adapter.BuildScatterGatherList(
                    lab.Device, mdl, va, length, (_, _, list, context) =>
                    {
                        order.Add(context);
                        live.Enqueue(list);
                    }, i, true, buffers[i]));
            }
            Assert.Equal(lab.IsRemapped ? 1 : 10, live.Count);
            while (live.TryDequeue(out ScatterGatherList? list)) { adapter.PutScatterGatherList(list, true); }
        }
        Assert.Equal(Enumerable.Range(0, 10).Cast<object?>(), order);
        lab.Platform.TestFrames.Limit(int.MaxValue);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T09_ABufferHoldsOneListAtATime(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096);
        Mdl mdl = lab.Buffer(4096);
        VirtualAddress va = VirtualAddress.Of(mdl);
        adapter.CalculateScatterGatherListSize(mdl, va, 4096, out int size, out _);
        ScatterGatherBuffer buffer = new(adapter, size);
        DriverListControl nothing = static (_, _, _, _) => { };
        lab.AtDispatch(() =>
        {
            adapter.BuildScatterGatherList(lab.Device, mdl, va, 4096, nothing, null, true, buffer);
            Assert.Throws<InvalidOperationException>(() =>
                adapter.BuildScatterGatherList(lab.Device, mdl, va, 4096, nothing, null, true, buffer));
            adapter.PutScatterGatherList(buffer.List, true);
            Assert.Equal(NtStatus.Success,
                adapter.BuildScatterGatherList(lab.Device, mdl, va, 4096, nothing, null, true, buffer));
            adapter.PutScatterGatherList(buffer.List, true);
        });
        adapter.PutDmaAdapter();
    }

    // Seen failing: the status of the inner call returned by the outer one, whose routine had run.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T09_WhatARoutineBuildsInTheSameMemoryHasAStatusOfItsOwn(string backend)
    {
        using Lab lab = new(backend, registers: 2);
        WdmAdapter adapter = lab.Get(4096);
        Mdl mdl = lab.Buffer(8192), bad = lab.Buffer(4096);
        ScatterGatherBuffer buffer = new(adapter, ScatterGatherBuffer.BytesFor(2));
        ScatterGatherList held = lab.List(adapter, mdl, 0, 8192, true);
        lab.Platform.TestFrames.Mark(bad.Pages[0], FrameKind.Kernel);
        // Registers come back after the request found none and before it waits: it is served in its own call.
        lab.Platform.TestClock.Asked = () =>
        {
            lab.Platform.TestClock.Asked = null;
            lab.Put(adapter, held, true);
        };
        (int served, NtStatus inner) = (0, NtStatus.Success);
        lab.AtDispatch(() =>
        {
            Assert.Equal(NtStatus.Success, adapter.BuildScatterGatherList(
                lab.Device, mdl, VirtualAddress.Of(mdl), 8192, (_, _, list, _) =>
                {
                    served++;
                    adapter.PutScatterGatherList(list, true);
                    inner = adapter.BuildScatterGatherList(
                        lab.Device, bad, VirtualAddress.Of(bad), 4096, (_, _, _, _) => served++, null, true, buffer);
                }, null, true, buffer));
        });
        Assert.Equal((1, NtStatus.AccessDenied), (served, inner));
        lab.Platform.TestFrames.Mark(bad.Pages[0], FrameKind.Buffer);
        adapter.PutDmaAdapter();
    }

    // Seen failing: a second MDL of one list; the driver's own pages where others stand in for those that a transfer of
    // a device that is not trusted does not fill.
    [Theory]
    [MemberData(nameof(Backend.AllAndUntrusted), MemberType = typeof(Backend))]
    public void T10_AnMdlOfAListShowsTheTransferredBytesOnce(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(64 << 10);
        Mdl chain = lab.Chain((5000, 123), (700, 4000), (9001, 7));
        foreach ((uint offset, uint length) in new[] { (0u, 14_701u), (100u, 9000u), (4999u, 2u), (200u, 100u) })
        {
            ScatterGatherList list = lab.List(adapter, chain, offset, length, writeToDevice: false);
            byte[] data = Lab.Random(length, (int)length);
            lab.DeviceWrites(list, data);
            Assert.Equal(NtStatus.InvalidParameter, adapter.BuildMdlFromScatterGatherList(list, null, out Mdl? none));
            Assert.Null(none);
            Assert.Equal(NtStatus.Success, adapter.BuildMdlFromScatterGatherList(list, chain, out Mdl? target));
            Assert.Equal(length, target!.ChainByteCount);
            Assert.Equal(data, Lab.Bytes(target, 0, length));
            Assert.Equal(NtStatus.NoneMapped, adapter.BuildMdlFromScatterGatherList(list, chain, out _));
            lab.Put(adapter, list, writeToDevice: false);
            Assert.Equal(data, Lab.Bytes(chain, offset, length));
        }
        adapter.PutDmaAdapter();
    }
}
