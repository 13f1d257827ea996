namespace Sluice.Dma.Wdm.Tests;

/// <summary>
/// Defects of another implementation of this DDI, as its public source shows them: each has a test that would have
/// caught it.
/// </summary>
public sealed class ReactOsTests
{
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_A32BitScatterGatherDeviceNeverGetsATruncatedAddress(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096, width: 32);
        Mdl mdl = ElementTests.High(lab);
        ScatterGatherList? got = null;
        NtStatus status = lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), 4096, (_, _, list, _) => got = list, null, true));
        // Nothing can be done for it on identity; everywhere else the device finds the buffer's bytes at what it is
        // told.
        Assert.Equal((backend != "identity", backend != "identity"), (status.IsSuccess(), got is not null));
        if (got is not null)
        {
            Assert.Equal(Lab.Bytes(mdl, 0, 4096), lab.DeviceReads(got));
            lab.Put(adapter, got, true);
        }
        // The other road: run by run.
        MapRegisterBase registers = ChannelTests.Granted(lab, adapter, 1);
        uint length = 4096;
        if (backend == "identity")
        {
            Assert.Throws<DmaException>(() =>
                adapter.MapTransfer(mdl, registers, VirtualAddress.Of(mdl), ref length, true));
        }
        else
        {
            LogicalAddress address = adapter.MapTransfer(mdl, registers, VirtualAddress.Of(mdl), ref length, true);
            byte[] seen = new byte[4096];
            Assert.True(lab.Platform.DmaRead(Lab.Slot, address, seen));
            Assert.Equal(Lab.Bytes(mdl, 0, 4096), seen);
            Assert.True(adapter.FlushAdapterBuffers(mdl, registers, VirtualAddress.Of(mdl), 4096, true));
        }
        lab.AtDispatch(() => adapter.FreeMapRegisters(registers, 1));
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_AListOfAThousandElementsIsCalledBackWith(string backend)
    {
        using Lab lab = new(backend, bytesPerBank: 8 << 20,
            options: backend == "bounce" ? new() { Bounce = new() { Pages = 1200, Always = true } } : null);
        WdmAdapter adapter = lab.Get(1000 * 4096);
        Mdl mdl = lab.Buffer(1000 * 4096);
        ScatterGatherList list = lab.List(adapter, mdl, 0, 1000 * 4096, true);
        if (backend == "identity") { Assert.True(list.NumberOfElements > 900); }
        Assert.Equal(Lab.Bytes(mdl, 0, 1000 * 4096), lab.DeviceReads(list));
        lab.Put(adapter, list, true);
        adapter.PutDmaAdapter();
    }

    // Seen failing: registers counted by the length alone.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_TwoBytesAcrossAPageTakeTwoMapRegisters(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096);
        Mdl mdl = lab.Buffer(2, 4095);
        Assert.Equal(NtStatus.Success, adapter.CalculateScatterGatherListSize(
            mdl, VirtualAddress.Of(mdl), 2, out _, out int registers));
        Assert.Equal(2, registers);
        ScatterGatherList list = lab.List(adapter, mdl, 0, 2, false);
        lab.DeviceWrites(list, [0xAA, 0xBB]);
        lab.Put(adapter, list, false);
        Assert.Equal([0xAA, 0xBB], Lab.Bytes(mdl, 0, 2));
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_BuildingAListAllocatesNothingAtAll(string backend) =>
        new ScatterGatherTests().T09_BuildTakesExactlyThatSizeAndAllocatesNothing(backend);

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_EveryMdlOfAChainIsWalked(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(65536);
        Mdl chain = lab.Chain((4096, 0), (4096, 0), (4096, 0));
        ScatterGatherList list = lab.List(adapter, chain, 100, 12_000, true);
        Assert.Equal(Lab.Bytes(chain, 100, 12_000), lab.DeviceReads(list));
        lab.Put(adapter, list, true);
        // Right after the first MDL's last byte.
        Assert.Equal(NtStatus.BufferTooSmall, lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, chain, VirtualAddress.Of(chain) + 100, 12_189, (_, _, _, _) => Assert.Fail("ran"), null,
            true)));
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_MoreThanSixtyFourRegistersAndNoOverrunAtTheLimit(string backend)
    {
        using Lab lab = new(backend, registers: 100);
        WdmAdapter adapter = lab.Get(99 * 4096);
        Mdl mdl = lab.Buffer(100 * 4096);
        ScatterGatherList list = lab.List(adapter, mdl, 0, 100 * 4096, true);
        bool ran = false;
        lab.AtDispatch(() =>
        {
            // Not one is left: this one waits.
            Assert.Equal(NtStatus.Success, adapter.GetScatterGatherList(lab.Device, mdl, VirtualAddress.Of(mdl), 1,
                (_, _, one, _) => { ran = true; adapter.PutScatterGatherList(one, true); }, null, true));
            Assert.False(ran);
        });
        lab.Put(adapter, list, true);
        Assert.True(ran);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_AQueuedRequestIsMappedAsAnImmediateOne(string backend)
    {
        using Lab lab = new(backend, registers: 8);
        WdmAdapter adapter = lab.Get(7 * 4096);
        Mdl mdl = lab.Buffer(7 * 4096, 33);
        List<(int, byte[])> seen = [];
        void Ask() => Assert.Equal(NtStatus.Success, lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), 7 * 4096, (_, _, list, _) =>
            {
                seen.Add((list.NumberOfElements, lab.DeviceReads(list)));
                adapter.PutScatterGatherList(list, true);
            }, null, true)));
        Ask();
        ScatterGatherList held = lab.List(adapter, mdl, 0, 4096, true);
        Ask();
        Assert.Single(seen);
        lab.Put(adapter, held, true);
        Assert.Equal(2, seen.Count);
        Assert.Equal(seen[0].Item1, seen[1].Item1);
        Assert.Equal(seen[0].Item2, seen[1].Item2);
        // And the channel: the queued one keeps as many registers as the immediate one.
        foreach (bool queued in new[] { false, true })
        {
            lab.AtDispatch(() =>
            {
                if (queued)
                {
                    adapter.AllocateAdapterChannel(
                        new(Lab.Slot, "first"), 1, (_, _, _, _) => IoAllocationAction.KeepObject, null);
                }
                MapRegisterBase? granted = null;
                adapter.AllocateAdapterChannel(lab.Device, 3, (_, _, registers, _) =>
                {
                    granted = registers;
                    return IoAllocationAction.DeallocateObjectKeepRegisters;
                }, null);
                if (queued) { adapter.FreeAdapterChannel(); }
                Assert.Equal(3, granted!.NumberOfMapRegisters);
                adapter.FreeMapRegisters(granted, 3);
            });
        }
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_AFlushWithNoMemoryLeftCopiesBackAll(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(65536);
        Mdl mdl = lab.Buffer(65536);
        MapRegisterBase registers = ChannelTests.Granted(lab, adapter, 16);
        uint length = 65536;
        ScatterGatherBuffer buffer = new(adapter, ScatterGatherBuffer.BytesFor(16));
        adapter.MapTransferEx(mdl, registers, 0, 0, ref length, false, buffer, null, null);
        Assert.Equal(65536u, length);
        byte[] data = Lab.Random(65536, 12);
        lab.DeviceWrites(buffer.List, data);
        lab.Platform.TestFrames.Limit(0);
        Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(mdl, registers, 0, 65536, false));
        // The channel's own resources need no memory for the next piece either.
        Assert.Equal(NtStatus.Success,
            adapter.MapTransferEx(mdl, registers, 0, 0, ref length, true, buffer, null, null));
        Assert.Equal(data, lab.DeviceReads(buffer.List));
        Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(mdl, registers, 0, 65536, true));
        lab.Platform.TestFrames.Limit(int.MaxValue);
        lab.AtDispatch(() => adapter.FreeMapRegisters(registers, 16));
        Assert.Equal(data, Lab.Bytes(mdl, 0, 65536));
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_WhatIsNotGivenBackIsALeakAtPutDmaAdapter(string backend)
    {
        using TestPlatform platform = new(1, 1 << 20);
        using DmaSystem system = Backend.Start(platform, backend);
        WdmDma dma = new(system);
        WdmDeviceObject device = new(Lab.Slot, "leaky");
        WdmAdapter adapter = dma.IoGetDmaAdapter(device, Lab.Master(65536), out _)!;
        using Mdl mdl = Mdl.Allocate(platform, 8192);
        adapter.AllocateCommonBuffer(4096, out _, true);
        using (IrqlScheduler.RaiseTo(Irql.Dispatch))
        {
            adapter.GetScatterGatherList(device, mdl, VirtualAddress.Of(mdl), 8192, (_, _, _, _) => { }, null, true);
        }
        MapRegisterBase? granted = null;
        using (IrqlScheduler.RaiseTo(Irql.Dispatch))
        {
            adapter.AllocateAdapterChannel(device, 1, (_, _, registers, _) =>
            {
                granted = registers;
                return IoAllocationAction.KeepObject;
            }, null);
        }
        uint length = 100;
        adapter.MapTransfer(mdl, granted!, VirtualAddress.Of(mdl), ref length, true);
        adapter.PutDmaAdapter();
        Assert.Equal(3, system.Leaks.Count);
        Assert.All(system.Leaks, leak => Assert.StartsWith("leaky 0000:00:04.0 leaked", leak.ToString(),
            StringComparison.Ordinal));
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_AQueuedChannelOrListCanBeWithdrawn(string backend)
    {
        new TransferTests().T13_CancelledBeforeWhileQueuedAndTooLate(backend);
        new TransferTests().T13_AQueuedListIsWithdrawnAndItsBufferFree(backend);
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void ReactOs_AllFunctionsOfVersion3AreThere(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096);
        Assert.Equal(NtStatus.Success, adapter.GetDmaAdapterInfo(1, out _));
        Assert.All(Enum.GetNames<DdiFunction>().Skip(1), static name =>
            Assert.NotEmpty(typeof(WdmAdapter).GetMember(name)));
        adapter.PutDmaAdapter();
    }
}
