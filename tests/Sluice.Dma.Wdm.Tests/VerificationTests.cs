using System.Runtime.CompilerServices;
using static Sluice.Dma.VerificationRule;

namespace Sluice.Dma.Wdm.Tests;

/// <summary>
/// The rules that a driver of this layer can break, each once and once nearly: V for Windows' numbers, D for those of
/// dma-debug. What both layers know is in Sluice.Dma.Tests.
/// </summary>
/// <remarks>Seen failing: each rule silenced by itself.</remarks>
public abstract class VerificationTests : IDisposable
{
    private const IoAllocationAction Keep = IoAllocationAction.KeepObject;
    private const IoAllocationAction Free = IoAllocationAction.DeallocateObject;
    private const IoAllocationAction KeepRegisters = IoAllocationAction.DeallocateObjectKeepRegisters;

    private readonly Lab _lab;
    private readonly List<DmaViolation> _violations = [];
    private FifoDmaController _controller = null!;

    protected VerificationTests(string backend)
    {
        _lab = new(backend, registers: 64, options: new() { Verification = VerificationMode.Log },
            makeController: platform => _controller = new(platform, Lab.Slot, 4) { AddressBits = 64 });
        _lab.System.Violated += _violations.Add;
    }

    public void Dispose()
    {
        _lab.Dispose();
        GC.SuppressFinalize(this);
    }

    private DmaViolation Broke(VerificationRule rule, int subCode = 0)
    {
        DmaViolation violation = Assert.Single(_violations);
        _violations.Clear();
        Assert.Equal((rule, subCode, "test", Lab.Slot),
            (violation.Rule, violation.SubCode, violation.Driver, violation.Device));
        return violation;
    }

    private void BrokeNothing() => Assert.Empty(_violations);

    private MapRegisterBase Channel(WdmAdapter adapter, int registers, IoAllocationAction action)
    {
        MapRegisterBase? granted = null;
        Assert.Equal(NtStatus.Success, _lab.AtDispatch(() => adapter.AllocateAdapterChannel(
            _lab.Device, registers, (_, _, mapRegisters, _) => { granted = mapRegisters; return action; }, null)));
        return granted!;
    }

    private static uint Map(
        WdmAdapter adapter, MapRegisterBase registers, Mdl mdl, uint offset, uint length, bool writeToDevice = true)
    {
        adapter.MapTransfer(mdl, registers, VirtualAddress.Of(mdl) + offset, ref length, writeToDevice);
        return length;
    }

    private static bool Flush(
        WdmAdapter adapter, MapRegisterBase registers, Mdl mdl, uint offset, uint length, bool writeToDevice = true) =>
        adapter.FlushAdapterBuffers(mdl, registers, VirtualAddress.Of(mdl) + offset, length, writeToDevice);

    private void FreeRegisters(WdmAdapter adapter, MapRegisterBase registers, int? count = null) =>
        _lab.AtDispatch(() => adapter.FreeMapRegisters(registers, count ?? registers.NumberOfMapRegisters));

    [Fact]
    public void V00_V16_V20_FlushesThatDoNotMatchWhatWasMapped()
    {
        WdmAdapter adapter = _lab.Get(8 * 4096);
        Mdl mdl = _lab.Buffer(3 * 4096);
        Mdl other = _lab.Buffer(4096);
        MapRegisterBase registers = Channel(adapter, 4, KeepRegisters);
        Assert.Equal(4096u, Map(adapter, registers, mdl, 0, 4096));
        BrokeNothing();
        Assert.False(Flush(adapter, registers, mdl, 0, 4097));
        Broke(MapRegisterFile, 1);
        Assert.False(Flush(adapter, registers, other, 0, 4096));
        Broke(FlushOfUnmappedBuffer);
        Assert.False(Flush(adapter, registers, mdl, 4096, 4096));
        Broke(FlushOfUnusedRegister);
        Assert.False(Flush(adapter, registers, mdl, 0, 4095));
        Broke(LengthDiffers);
        Assert.False(Flush(adapter, registers, mdl, 0, 4096, writeToDevice: false));
        Broke(DirectionDiffers);
        Assert.True(Flush(adapter, registers, mdl, 0, 4096));
        FreeRegisters(adapter, registers);
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void V03_D03_D05_ACommonBufferIsFreedOtherwiseThanItWasAllocated()
    {
        WdmAdapter adapter = _lab.Get(4096);
        CommonBuffer ring = adapter.AllocateCommonBuffer(5000, out LogicalAddress address, true)!;
        Assert.Throws<InvalidOperationException>(() => adapter.FreeCommonBuffer(4096, address, ring, true));
        Broke(LengthDiffers);
        Assert.Throws<InvalidOperationException>(() => adapter.FreeCommonBuffer(5000, address + 4096, ring, true));
        Broke(AddressDiffers);
        adapter.FreeCommonBuffer(5000, address, ring, true);
        BrokeNothing();
        try { adapter.FreeCommonBuffer(5000, address, ring, true); }
        catch (InvalidOperationException) { }
        Broke(CommonBufferFreedTwice);
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void V04_AChannelIsFreedTwice()
    {
        WdmAdapter adapter = _lab.Get(4096);
        Channel(adapter, 1, Keep);
        _lab.AtDispatch(adapter.FreeAdapterChannel);
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => _lab.AtDispatch(adapter.FreeAdapterChannel));
        Broke(ChannelFreedTwice);
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void V05_D04_MapRegistersAreFreedTwiceOrInPartOrWithoutTheirChannel()
    {
        WdmAdapter adapter = _lab.Get(4 * 4096);
        MapRegisterBase registers = Channel(adapter, 2, KeepRegisters);
        Assert.Throws<InvalidOperationException>(() => FreeRegisters(adapter, registers, 1));
        Broke(LengthDiffers);
        FreeRegisters(adapter, registers);
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => FreeRegisters(adapter, registers));
        Broke(MapRegistersFreedTwice);
        registers = Channel(adapter, 2, Keep);
        Assert.Throws<InvalidOperationException>(() => FreeRegisters(adapter, registers));
        Broke(WrongFunction);
        _lab.AtDispatch(adapter.FreeAdapterChannel);
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void V06_D07_AListIsPutTwiceOrTheOtherWay()
    {
        WdmAdapter adapter = _lab.Get(4 * 4096);
        ScatterGatherList list = _lab.List(adapter, _lab.Buffer(8192), 0, 8192, writeToDevice: true);
        Assert.Throws<InvalidOperationException>(() => _lab.Put(adapter, list, writeToDevice: false));
        Assert.Equal("got for ToDevice, given back for FromDevice", Broke(DirectionDiffers).Line);
        _lab.Put(adapter, list, writeToDevice: true);
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => _lab.Put(adapter, list, writeToDevice: true));
        Assert.Equal("test.PutScatterGatherList", Broke(ListPutTwice).Site.ToString());
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void V08_V09_TheAdapterIsPutBeforeItsChannelOrItsRegisters()
    {
        WdmAdapter adapter = _lab.Get(4 * 4096);
        Channel(adapter, 2, Keep);
        adapter.PutDmaAdapter();
        Assert.Equal([ChannelsOutstanding, MapRegistersOutstanding], _violations.Select(static v => v.Rule));
        _violations.Clear();
        adapter = _lab.Get(4 * 4096);
        Channel(adapter, 2, KeepRegisters);
        adapter.PutDmaAdapter();
        Broke(MapRegistersOutstanding);
        adapter = _lab.Get(4 * 4096);
        Channel(adapter, 2, Free);
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void V0B_ASecondChannelAtOnce()
    {
        WdmAdapter adapter = _lab.Get(4 * 4096);
        NtStatus inside = _lab.AtDispatch(() => adapter.AllocateAdapterChannel(_lab.Device, 1, (_, _, _, _) =>
        {
            Assert.Equal(NtStatus.InvalidDeviceRequest,
                adapter.AllocateAdapterChannel(_lab.Device, 1, (_, _, _, _) => Free, null));
            return Keep;
        }, null));
        Assert.Equal(NtStatus.Success, inside);
        Broke(SecondChannel);
        int ran = 0;
        NtStatus Ask() => _lab.AtDispatch(() => adapter.AllocateAdapterChannel(
            _lab.Device, 1, (_, _, _, _) => { ran++; return Free; }, null));
        Assert.Equal(NtStatus.Success, Ask());
        BrokeNothing();
        Assert.Equal(NtStatus.DeviceBusy, Ask());
        Broke(SecondChannel);
        _lab.AtDispatch(adapter.FreeAdapterChannel);
        Assert.Equal(1, ran);
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void V0D_V10_WhatIsMappedIsNotFlushedBeforeItsRegistersGo()
    {
        WdmAdapter adapter = _lab.Get(4 * 4096);
        Mdl mdl = _lab.Buffer(4096);
        MapRegisterBase registers = Channel(adapter, 1, Keep);
        Map(adapter, registers, mdl, 0, 4096);
        Assert.Throws<InvalidOperationException>(() => _lab.AtDispatch(adapter.FreeAdapterChannel));
        Broke(NotFlushed);
        Flush(adapter, registers, mdl, 0, 4096);
        _lab.AtDispatch(adapter.FreeAdapterChannel);
        registers = Channel(adapter, 1, KeepRegisters);
        Map(adapter, registers, mdl, 0, 4096);
        Assert.Throws<InvalidOperationException>(() => FreeRegisters(adapter, registers));
        Broke(MapRegistersFreedWhileMapped);
        Flush(adapter, registers, mdl, 0, 4096);
        FreeRegisters(adapter, registers);
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void V0D_TheNextMapComesBeforeTheFlushOfTheLast()
    {
        WdmAdapter adapter = _lab.Get(4 * 4096);
        Mdl mdl = _lab.Buffer(8192);
        MapRegisterBase registers = Channel(adapter, 2, Keep);
        ScatterGatherBuffer buffer = new(adapter, 1000);
        ScatterGatherBuffer second = new(adapter, 1000);
        uint length = 4096;
        NtStatus Next(ulong offset, ScatterGatherBuffer into) =>
            adapter.MapTransferEx(mdl, registers, offset, 0, ref length, true, into, null, null);
        Assert.Equal(NtStatus.Success, Next(0, buffer));
        Assert.Equal(NtStatus.InvalidParameter, Next(4096, second));
        Broke(NotFlushed);
        Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(mdl, registers, 0, 4096, true));
        Assert.Equal(NtStatus.Success, Next(4096, second));
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => _lab.Put(adapter, second.List, false));
        Assert.Equal([WrongFunction, DirectionDiffers], _violations.Select(static v => v.Rule));
        _violations.Clear();
        Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(mdl, registers, 4096, 4096, true));
        Assert.Equal(NtStatus.InvalidParameter, adapter.FlushAdapterBuffersEx(mdl, registers, 4096, 4096, true));
        Broke(FlushOfUnmappedBuffer);
        _lab.AtDispatch(adapter.FreeAdapterChannel);
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void V11_V19_V1E_V25_WaysToAnAdapterThatAreNone()
    {
        WdmAdapter first = _lab.Get(4096);
        BrokeNothing();
        Assert.Null(_lab.Dma.IoGetDmaAdapter(_lab.Device, Lab.Master(4096), out _));
        Broke(TooManyReferences);
        _lab.Dma.PutDmaAdapter(_lab.Device, first);
        BrokeNothing();
        _lab.Dma.PutDmaAdapter(_lab.Device, null);
        Broke(NoAdapter);
        Assert.Null(_lab.Dma.HalGetAdapter(_lab.Device, out int registers));
        Assert.Equal(0, registers);
        Broke(ObsoleteAdapterFunction);
        Assert.Null(_lab.Dma.IoGetDmaAdapter(_lab.Device, Lab.Master(4096) with { Version = 4 }, out _));
        Assert.Equal("version 4 of a device description is unknown", Broke(UnknownDescription).Line);
        Assert.Null(_lab.Dma.IoGetDmaAdapter(_lab.Device, Lab.Master(0), out _));
        BrokeNothing();
    }

    [Fact]
    public void V13_AFunctionIsCalledAtAnotherLevelThanItDemands()
    {
        WdmAdapter adapter = _lab.Get(4096);
        Mdl mdl = _lab.Buffer(4096);
        ScatterGatherList list = _lab.List(adapter, mdl, 0, 4096, true);
        BrokeNothing();
        Assert.Throws<IrqlException>(() => adapter.PutScatterGatherList(list, true));
        Assert.Equal("PutScatterGatherList is called at Passive level and is for Dispatch level",
            Broke(WrongLevel).Line);
        _lab.Put(adapter, list, true);
        Assert.Throws<IrqlException>(() => _lab.AtDispatch(() => adapter.GetDmaAlignment()));
        Broke(WrongLevel);
        adapter.PutDmaAdapter();
        Assert.Throws<IrqlException>(() =>
            _lab.AtDispatch(() => _lab.Dma.IoGetDmaAdapter(_lab.Device, Lab.Master(4096), out _)));
        Broke(WrongLevel);
    }

    [Fact]
    public void V14_AFunctionIsCalledAboveItsHighestLevel()
    {
        WdmAdapter adapter = _lab.Get(4096);
        _lab.AtDispatch(() => adapter.ReadDmaCounter());
        BrokeNothing();
        Assert.Throws<IrqlException>(() =>
        {
            using (IrqlScheduler.RaiseTo(Irql.Device)) { adapter.ReadDmaCounter(); }
        });
        Broke(LevelTooHigh);
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void V15_MoreMapRegistersThanGranted()
    {
        WdmAdapter adapter = _lab.Get(8192);
        Assert.Equal(3, adapter.NumberOfMapRegisters);
        Channel(adapter, 3, Free);
        BrokeNothing();
        Assert.Equal(NtStatus.InsufficientResources, _lab.AtDispatch(() => adapter.AllocateAdapterChannel(
            _lab.Device, 4, (_, _, _, _) => Free, null)));
        Broke(TooManyMapRegisters);
        Mdl mdl = _lab.Buffer(4 * 4096);
        Assert.Equal(NtStatus.InsufficientResources, _lab.AtDispatch(() => adapter.GetScatterGatherList(
            _lab.Device, mdl, VirtualAddress.Of(mdl), 4 * 4096, (_, _, _, _) => { }, null, true)));
        Broke(TooManyMapRegisters);
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void V18_TheAdapterIsUsedAfterItWasPut()
    {
        WdmAdapter adapter = _lab.Get(4096);
        adapter.PutDmaAdapter();
        BrokeNothing();
        Assert.Equal(0u, adapter.ReadDmaCounter());
        Broke(AdapterReleased);
        adapter.PutDmaAdapter();
        Broke(AdapterReleased);
    }

    [Fact]
    public void V1D_ARunIsMappedTwice()
    {
        WdmAdapter adapter = _lab.Get(8 * 4096);
        Mdl mdl = _lab.Buffer(8192);
        MapRegisterBase registers = Channel(adapter, 4, KeepRegisters);
        Map(adapter, registers, mdl, 0, 4096);
        Map(adapter, registers, mdl, 4096, 4096);
        BrokeNothing();
        Map(adapter, registers, mdl, 0, 100);
        Broke(AlreadyMapped, 1);
        Flush(adapter, registers, mdl, 0, 4096);
        Flush(adapter, registers, mdl, 4096, 4096);
        _violations.Clear();
        Flush(adapter, registers, mdl, 0, 100);
        Broke(FlushOfUnmappedBuffer);
        FreeRegisters(adapter, registers);
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void V1F_V21_V24_ABufferThatIsNotInItsMdl()
    {
        WdmAdapter adapter = _lab.Get(8 * 4096);
        Mdl mdl = _lab.Buffer(5000, 100);
        VirtualAddress start = VirtualAddress.Of(mdl);
        NtStatus Ask(VirtualAddress at, uint length) => _lab.AtDispatch(() => adapter.GetScatterGatherList(
            _lab.Device, mdl, at, length, (_, _, list, _) => adapter.PutScatterGatherList(list, true), null, true));
        Assert.Equal(NtStatus.Success, Ask(start + 4999, 1));
        BrokeNothing();
        Assert.Equal(NtStatus.InvalidParameter, Ask(new(start.Value - 1), 1));
        Broke(InvalidBuffer, 1);
        Assert.Equal(NtStatus.InvalidParameter, Ask(start + 5000, 1));
        Broke(InvalidBuffer, 2);
        Assert.Equal(NtStatus.InvalidParameter, Ask(start, 0));
        Broke(ZeroLength);
        Assert.Equal(NtStatus.BufferTooSmall, Ask(start + 4999, 2));
        Broke(BufferTooShort);

        // Only what goes on in a page that the MDL does not have is wrong: the rest is cut off.
        MapRegisterBase registers = Channel(adapter, 4, KeepRegisters);
        Assert.Equal(1004u, Map(adapter, registers, mdl, 3996, 1004 + 3092));
        BrokeNothing();
        Assert.True(Flush(adapter, registers, mdl, 3996, 1004));
        Assert.Equal(1004u, Map(adapter, registers, mdl, 3996, 1004 + 3093));
        Broke(InvalidBuffer, 3);
        Flush(adapter, registers, mdl, 3996, 1004);
        FreeRegisters(adapter, registers);
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void V1B_AnOffsetThatIsNotInItsMdl()
    {
        WdmAdapter adapter = _lab.Get(8 * 4096);
        Mdl mdl = _lab.Buffer(5000);
        MapRegisterBase registers = Channel(adapter, 4, KeepRegisters);
        ScatterGatherBuffer buffer = new(adapter, 1000);
        uint length = 1;
        NtStatus Next(ulong offset) =>
            adapter.MapTransferEx(mdl, registers, offset, 0, ref length, true, buffer, null, null);
        Assert.Equal(NtStatus.Success, Next(4999));
        Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(mdl, registers, 4999, 1, true));
        BrokeNothing();
        Assert.Equal(NtStatus.InvalidParameter, Next(5000));
        Broke(OutsideMdl);
        FreeRegisters(adapter, registers);
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void V23_AChannelIsFlushedWhileTheControllerStillMovesBytes()
    {
        WdmAdapter adapter = _lab.Get(new WdmDeviceDescription
        {
            Version = 3, MaximumLength = 8192, DmaRequestLine = 2, DmaWidth = DmaWidth.Width32Bits,
        });
        Mdl mdl = _lab.Buffer(4096);
        DmaTransferContext context = new();
        for (int round = 0; round < 3; round++)
        {
            Assert.Equal(NtStatus.Success, adapter.InitializeDmaTransferContext(context));
            StrongBox<MapRegisterBase?> box = new();
            Assert.Equal(NtStatus.Success, _lab.AtDispatch(() => adapter.AllocateAdapterChannelEx(
                _lab.Device, context, 1, DmaFlags.SynchronousCallback, null, null, box)));
            uint length = 4096;
            Assert.Equal(NtStatus.Success, adapter.MapTransferEx(
                mdl, box.Value!, 0, 0, ref length, true, null, null, null));
            // All but one byte; all; cancelled in the middle.
            Assert.Equal(4096u - (round == 1 ? 0u : 1u), _controller.Step(2, round == 1 ? 4096u : 4095u));
            if (round == 2) { adapter.CancelMappedTransfer(_lab.Device, context); }
            Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(mdl, box.Value!, 0, 4096, true));
            if (round == 0) { Assert.Equal("1 bytes are to be moved", Broke(FlushOfRunningChannel).Line); }
            else { BrokeNothing(); }
            adapter.FreeAdapterObject(_lab.Device, Free);
        }
        adapter.PutDmaAdapter();
        BrokeNothing();
    }

    [Fact]
    public void D17_D18_D19_D20_D21_ARangeIsFlushedThatIsNotMappedThatWay()
    {
        WdmAdapter adapter = _lab.Get(8 * 4096);
        Mdl mdl = _lab.Buffer(8192);
        ScatterGatherList list = _lab.List(adapter, mdl, 100, 1000, writeToDevice: false);
        Assert.Equal(NtStatus.Success, adapter.FlushDmaBuffer(mdl, 100, 1000, readOperation: true));
        BrokeNothing();
        adapter.FlushDmaBuffer(mdl, 99, 10, readOperation: true);
        Broke(SyncOfUnmapped);
        adapter.FlushDmaBuffer(mdl, 100, 1001, readOperation: true);
        Broke(SyncOutside);
        adapter.FlushDmaBuffer(mdl, 100, 1000, readOperation: false);
        Broke(SyncDirectionDiffers);
        _lab.Put(adapter, list, writeToDevice: false);
        adapter.FlushDmaBuffer(mdl, 100, 1000, readOperation: true);
        Broke(SyncOfUnmapped);
        adapter.PutDmaAdapter();
    }

    [Fact]
    public void AContextIsSetUpWhileItIsUsedOrForgotten()
    {
        WdmAdapter adapter = _lab.Get(8192);
        DmaTransferContext context = new();
        NtStatus Ask() => _lab.AtDispatch(() => adapter.AllocateAdapterChannelEx(
            _lab.Device, context, 1, DmaFlags.None, (_, _, _, _) => Keep, null, null));
        adapter.InitializeDmaTransferContext(context);
        Assert.Equal(NtStatus.Success, Ask());
        BrokeNothing();
        Assert.Equal(NtStatus.InvalidParameter, adapter.InitializeDmaTransferContext(context));
        Broke(ContextMisused);
        _lab.AtDispatch(adapter.FreeAdapterChannel);
        adapter.InitializeDmaTransferContext(context);
        Assert.Equal(NtStatus.Success, Ask());
        adapter.PutDmaAdapter();
        Assert.Equal([ChannelsOutstanding, MapRegistersOutstanding, ContextsOutstanding],
            _violations.Select(static v => v.Rule));
    }
}

/// <summary>The rules where a device's addresses are memory's.</summary>
public sealed class IdentityVerificationTests() : VerificationTests("identity");

/// <summary>The rules where the device gets a copy.</summary>
public sealed class BounceVerificationTests() : VerificationTests("bounce");

/// <summary>The rules where a unit remaps.</summary>
public sealed class RemappingVerificationTests() : VerificationTests("remapping");

/// <summary>The rules where a unit remaps, and forgets later.</summary>
public sealed class DeferredVerificationTests() : VerificationTests("deferred");

/// <summary>
/// The same under <see cref="VerificationMode.Throw"/>: the call throws, and nothing is left in between.
/// </summary>
public sealed class ThrowingVerificationTests
{
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void AListThatWasChangedIsPutAllTheSame(string backend)
    {
        using Lab lab = new(backend, options: new() { Verification = VerificationMode.Throw });
        WdmAdapter adapter = lab.Get(8192);
        Mdl mdl = lab.Buffer(4096);
        for (int round = 0; round < 3; round++)
        {
            ScatterGatherList list = lab.List(adapter, mdl, 0, 4096, writeToDevice: true);
            Assert.True(lab.Platform.Memory.TryWrite(mdl.Pages[0], [(byte)round, 1, 2]));
            Assert.Equal(WrittenWhileMapped, Assert.Throws<DmaViolationException>(
                () => lab.Put(adapter, list, writeToDevice: true)).Violation.Rule);
            Assert.Equal(0, adapter.Adapter.Statistics.Outstanding);
        }
        Assert.Equal(WrongLevel, Assert.Throws<DmaViolationException>(
            () => lab.AtDispatch(() => adapter.GetDmaAlignment())).Violation.Rule);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void AListThatIsRefusedLeavesItsBufferFree(string backend)
    {
        using Lab lab = new(backend, options: new() { Verification = VerificationMode.Throw });
        WdmAdapter adapter = lab.Get(8192);
        Mdl mdl = lab.Buffer(4096);
        ScatterGatherList first = lab.List(adapter, mdl, 0, 4096, writeToDevice: false);
        Assert.Equal(AlreadyMapped, Assert.Throws<DmaViolationException>(
            () => lab.List(adapter, mdl, 0, 4096, writeToDevice: false)).Violation.Rule);
        ScatterGatherBuffer buffer = new(adapter, 1000);
        NtStatus Build() => lab.AtDispatch(() => adapter.BuildScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), 4096, (_, _, _, _) => { }, null, false, buffer));
        Assert.Equal(AlreadyMapped, Assert.Throws<DmaViolationException>(() => Build()).Violation.Rule);
        lab.Put(adapter, first, writeToDevice: false);
        Assert.Equal(NtStatus.Success, Build());
        lab.Put(adapter, buffer.List, writeToDevice: false);
        adapter.PutDmaAdapter();
    }
}
