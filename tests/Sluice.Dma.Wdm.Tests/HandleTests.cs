using System.Runtime.CompilerServices;
using static Sluice.Dma.VerificationRule;

namespace Sluice.Dma.Wdm.Tests;

/// <summary>
/// Every handle that a function takes: of another adapter, given back before, used twice, in the wrong order. Each
/// once, and once nearly.
/// </summary>
/// <remarks>
/// Seen failing: each of the nine rules that are named here silenced by itself, and registers whose owner nobody looks
/// at.
/// </remarks>
public abstract class HandleTests : IDisposable
{
    private const IoAllocationAction Keep = IoAllocationAction.KeepObject;
    private const IoAllocationAction KeepRegisters = IoAllocationAction.DeallocateObjectKeepRegisters;

    private readonly Lab _lab;
    private readonly List<DmaViolation> _violations = [];
    private readonly WdmAdapter _adapter;
    private readonly WdmAdapter _other;
    private readonly Mdl _mdl;

    protected HandleTests(string backend)
    {
        _lab = new(backend, registers: 64, options: new() { Verification = VerificationMode.Log },
            makeController: static platform => new FifoDmaController(platform, Lab.Slot, 4) { AddressBits = 64 });
        _lab.System.Violated += _violations.Add;
        _adapter = _lab.Get(8 * 4096);
        _other = _lab.Dma.IoGetDmaAdapter(new(PciAddress.From(0, 6, 0), "other"), Lab.Master(8 * 4096), out _)!;
        _mdl = _lab.Buffer(4 * 4096);
    }

    public void Dispose()
    {
        try
        {
            _adapter.PutDmaAdapter();
            _other.PutDmaAdapter();
            BrokeNothing();
        }
        finally { _lab.Dispose(); }
        GC.SuppressFinalize(this);
    }

    private void Broke(VerificationRule rule, int subCode = 0)
    {
        DmaViolation violation = Assert.Single(_violations);
        _violations.Clear();
        Assert.Equal((rule, subCode), (violation.Rule, violation.SubCode));
    }

    private void BrokeNothing() => Assert.Empty(_violations);

    private VirtualAddress Start => VirtualAddress.Of(_mdl);

    private void Map(WdmAdapter adapter, MapRegisterBase registers, uint offset = 0)
    {
        uint length = 4096;
        adapter.MapTransfer(_mdl, registers, Start + offset, ref length, true);
        Assert.Equal(4096u, length);
    }

    private NtStatus MapEx(WdmAdapter adapter, MapRegisterBase registers, ScatterGatherBuffer buffer)
    {
        uint length = 4096;
        return adapter.MapTransferEx(_mdl, registers, 0, 0, ref length, true, buffer, null, null);
    }

    private void Free(MapRegisterBase registers) =>
        _lab.AtDispatch(() => _adapter.FreeMapRegisters(registers, registers.NumberOfMapRegisters));

    // Seen failing: registers whose owner nobody looks at.
    [Fact]
    public void MapRegistersOfAnotherAdapter()
    {
        MapRegisterBase registers = ChannelTests.Granted(_lab, _adapter, 2);
        ScatterGatherBuffer buffer = new(_other, 1000);
        foreach (Action use in new Action[]
        {
            () => Map(_other, registers),
            () => MapEx(_other, registers, buffer),
            () => _other.FlushAdapterBuffers(_mdl, registers, Start, 4096, true),
            () => _other.FlushAdapterBuffersEx(_mdl, registers, 0, 4096, true),
            () => _lab.AtDispatch(() => _other.FreeMapRegisters(registers, 2)),
        })
        {
            Assert.Throws<InvalidOperationException>(use);
            Broke(NotOfThisAdapter);
        }
        Map(_adapter, registers);
        Assert.True(_adapter.FlushAdapterBuffers(_mdl, registers, Start, 4096, true));
        Free(registers);
    }

    // Seen failing: an ObjectDisposedException of something that the driver never saw.
    [Fact]
    public void MapRegistersThatWereFreed()
    {
        MapRegisterBase registers = ChannelTests.Granted(_lab, _adapter, 2);
        ScatterGatherBuffer buffer = new(_adapter, 1000);
        Assert.Equal(NtStatus.Success, MapEx(_adapter, registers, buffer));
        Assert.Equal(NtStatus.Success, _adapter.FlushAdapterBuffersEx(_mdl, registers, 0, 4096, true));
        Free(registers);
        BrokeNothing();
        Assert.IsType<InvalidOperationException>(Record.Exception(() => Map(_adapter, registers)));
        Broke(UsedAfterFree);
        Assert.Equal(NtStatus.InvalidParameter, MapEx(_adapter, registers, buffer));
        Broke(UsedAfterFree);
        Assert.False(_adapter.FlushAdapterBuffers(_mdl, registers, Start, 4096, true));
        Broke(UsedAfterFree);
        Assert.Equal(NtStatus.InvalidParameter, _adapter.FlushAdapterBuffersEx(_mdl, registers, 0, 4096, true));
        Broke(UsedAfterFree);
        Assert.Throws<InvalidOperationException>(() => Free(registers));
        Broke(MapRegistersFreedTwice);
    }

    // Seen failing: a map that finds no register left, and no word of it.
    [Fact]
    public void TheLastMapRegisterAndOneMore()
    {
        MapRegisterBase registers = ChannelTests.Granted(_lab, _adapter, 2);
        Map(_adapter, registers);
        Map(_adapter, registers, 4096);
        BrokeNothing();
        Assert.Equal(DmaFailure.OutOfResources,
            Assert.Throws<DmaException>(() => Map(_adapter, registers, 8192)).Failure);
        Broke(MapRegisterFile, 2);
        Assert.True(_adapter.FlushAdapterBuffers(_mdl, registers, Start, 8192, true));
        Free(registers);
    }

    // Seen failing: pages of a chain counted as if it were one MDL, so that rule 00 told of registers nobody had used.
    [Fact]
    public void AChainTakesTheRegistersOfItsParts()
    {
        Mdl chain = _lab.Chain((100, 4000), (4096, 0), (8192, 0));
        ScatterGatherBuffer buffer = new(_adapter, 1000);
        MapRegisterBase registers = ChannelTests.Granted(_lab, _adapter, 2);
        foreach ((uint offset, uint bytes) in new[] { (100u, 4096u), (4196u, 8192u), (50u, 50u), (99u, 4000u) })
        {
            uint length = bytes;
            Assert.Equal(NtStatus.Success,
                _adapter.MapTransferEx(chain, registers, offset, 0, ref length, true, buffer, null, null));
            Assert.Equal(NtStatus.Success,
                _adapter.FlushAdapterBuffersEx(chain, registers, offset, length, true));
            BrokeNothing();
        }
        Free(registers);
    }

    // Seen failing: a mapped transfer cancelled through another adapter, and no word of it.
    [Fact]
    public void ContextsOfAnotherAdapterOrInUseOrNotSetUp()
    {
        DmaTransferContext context = new();
        NtStatus Ask(WdmAdapter adapter, DmaFlags flags = DmaFlags.None) => _lab.AtDispatch(() =>
            flags == DmaFlags.None
                ? adapter.AllocateAdapterChannelEx(
                    _lab.Device, context, 1, flags, static (_, _, _, _) => Keep, null, null)
                : adapter.AllocateAdapterChannelEx(_lab.Device, context, 1, flags, null, null, new()));
        NtStatus List(WdmAdapter adapter) => _lab.AtDispatch(() => adapter.GetScatterGatherListEx(
            _lab.Device, context, _mdl, 0, 4096, DmaFlags.None, (_, _, list, _) =>
                adapter.PutScatterGatherList(list, true), null, true, null, null, null));
        // Not set up.
        Assert.Equal(NtStatus.InvalidParameter, Ask(_adapter));
        Broke(ContextMisused);
        Assert.Equal(NtStatus.InvalidParameter, List(_adapter));
        Broke(ContextMisused);
        Assert.Equal(NtStatus.Success, _adapter.InitializeDmaTransferContext(context));
        // By another adapter.
        Assert.Equal(NtStatus.InvalidParameter, Ask(_other));
        Broke(NotOfThisAdapter);
        Assert.Equal(NtStatus.InvalidParameter, Ask(_other, DmaFlags.SynchronousCallback));
        Broke(NotOfThisAdapter);
        Assert.Equal(NtStatus.InvalidParameter, List(_other));
        Broke(NotOfThisAdapter);
        Assert.False(_other.CancelAdapterChannel(_lab.Device, context));
        Broke(NotOfThisAdapter);
        Assert.Equal(NtStatus.InvalidParameter, _other.CancelMappedTransfer(_lab.Device, context));
        Broke(NotOfThisAdapter);
        // Nobody's is harmed: it still stands for the next request of its adapter.
        Assert.Equal(NtStatus.Success, Ask(_adapter));
        BrokeNothing();
        // Twice at once.
        Assert.Equal(NtStatus.InvalidParameter, List(_adapter));
        Broke(ContextMisused);
        _lab.AtDispatch(_adapter.FreeAdapterChannel);
        // Spent.
        Assert.Equal(NtStatus.InvalidParameter, Ask(_adapter));
        Broke(ContextMisused);
        // Withdrawn beforehand is no misuse.
        _adapter.InitializeDmaTransferContext(context);
        Assert.True(_adapter.CancelAdapterChannel(_lab.Device, context));
        Assert.Equal(NtStatus.Cancelled, Ask(_adapter));
        BrokeNothing();
        // Another adapter may set it up anew.
        _other.InitializeDmaTransferContext(context);
        Assert.Equal(NtStatus.Success, List(_other));
        BrokeNothing();
    }

    // Seen failing: one of a vector freed by itself.
    [Fact]
    public void CommonBuffersOfAnotherAdapterOrAVectorOrAfterTheirFree()
    {
        CommonBuffer ring = _adapter.AllocateCommonBuffer(4096, out LogicalAddress address, true)!;
        Assert.Throws<InvalidOperationException>(() => _other.FreeCommonBuffer(4096, address, ring, true));
        Broke(NotOfThisAdapter);
        ring.Write32(0, 1);
        Assert.Equal(1u, ring.Read32(0));
        _adapter.FreeCommonBuffer(4096, address, ring, true);
        BrokeNothing();
        foreach (Action use in new Action[]
        {
            () => ring.Read32(0), () => ring.Write32(0, 1), () => ring.Read64(0), () => ring.Write64(0, 1),
            () => ring.GetSpan(0, 1).Clear(), ring.Clear,
        })
        {
            Assert.Throws<ObjectDisposedException>(use);
            Broke(UsedAfterFree);
        }
        Assert.Throws<InvalidOperationException>(() => _adapter.FreeCommonBuffer(4096, address, ring, true));
        Broke(CommonBufferFreedTwice);
        CommonBufferVector vector = Vector();
        Assert.Throws<InvalidOperationException>(() =>
            _adapter.FreeCommonBuffer(4096, vector[1].Address, vector[1], true));
        Broke(WrongFunction);
        Assert.Equal(2, vector.Live);
        vector.FreeAll();
    }

    // Seen failing: the second free of a vector that nobody told of.
    [Fact]
    public void VectorsOfAnotherAdapterOrFreedInTheWrongOrderOrTwice()
    {
        CommonBufferVector vector = Vector();
        foreach (Action use in new Action[]
        {
            () => _other.GetCommonBufferFromVectorByIndex(vector, 0, out _, out _),
            () => _other.FreeCommonBufferFromVector(vector, 0),
            () => _other.FreeCommonBufferVector(vector),
        })
        {
            Assert.Throws<InvalidOperationException>(use);
            Broke(NotOfThisAdapter);
        }
        _adapter.GetCommonBufferFromVectorByIndex(vector, 0, out _, out _);
        _adapter.FreeCommonBufferFromVector(vector, 0);
        BrokeNothing();
        Assert.Equal(4, Assert.Throws<CommonBufferVectorException>(() =>
            _adapter.FreeCommonBufferFromVector(vector, 0)).Code);
        Broke(CommonBufferFreedTwice);
        Assert.Equal(4, Assert.Throws<CommonBufferVectorException>(() =>
            _adapter.GetCommonBufferFromVectorByIndex(vector, 0, out _, out _)).Code);
        Broke(UsedAfterFree);
        Assert.Equal(2, Assert.Throws<CommonBufferVectorException>(() =>
            _adapter.FreeCommonBufferVector(vector)).Code);
        Broke(StillInUse);
        _adapter.FreeCommonBufferFromVector(vector, 1);
        _adapter.FreeCommonBufferVector(vector);
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => _adapter.FreeCommonBufferVector(vector));
        Broke(CommonBufferFreedTwice);
    }

    // Seen failing: an MDL made from another adapter's list, and no word of it.
    [Fact]
    public void ListsOfAnotherAdapterOrAfterTheirPut()
    {
        ScatterGatherList list = _lab.List(_adapter, _mdl, 0, 4096, true);
        Assert.Throws<InvalidOperationException>(() => _lab.Put(_other, list, true));
        Broke(NotOfThisAdapter);
        Assert.Equal(NtStatus.InvalidParameter, _other.BuildMdlFromScatterGatherList(list, _mdl, out _));
        Broke(NotOfThisAdapter);
        Assert.True(list.NumberOfElements > 0);
        _lab.Put(_adapter, list, true);
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => list[0]);
        Broke(UsedAfterFree);
        Assert.Throws<InvalidOperationException>(() => list.NumberOfElements);
        Broke(UsedAfterFree);
        Assert.Throws<InvalidOperationException>(() => _adapter.BuildMdlFromScatterGatherList(list, _mdl, out _));
        Broke(UsedAfterFree);
        Assert.Throws<InvalidOperationException>(() => _lab.Put(_adapter, list, true));
        Broke(ListPutTwice);
    }

    // Seen failing: memory that still holds a list given for another, and no word of it.
    [Fact]
    public void MemoryForListsOfAnotherAdapterOrInUse()
    {
        ScatterGatherBuffer buffer = new(_adapter, 1000);
        MapRegisterBase registers = ChannelTests.Granted(_lab, _adapter, 1);
        NtStatus Build(WdmAdapter adapter) => _lab.AtDispatch(() => adapter.BuildScatterGatherList(
            _lab.Device, _mdl, Start, 4096, static (_, _, _, _) => { }, null, true, buffer));
        Assert.Equal(NtStatus.InvalidParameter, Build(_other));
        Broke(NotOfThisAdapter);
        Assert.Equal(NtStatus.InvalidParameter, MapEx(_adapter, registers, new(_other, 1000)));
        Broke(NotOfThisAdapter);
        Assert.Equal(NtStatus.Success, Build(_adapter));
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => Build(_adapter));
        Broke(StillInUse);
        Assert.Throws<InvalidOperationException>(() => MapEx(_adapter, registers, buffer));
        Broke(StillInUse);
        _lab.Put(_adapter, buffer.List, true);
        Assert.Equal(NtStatus.Success, MapEx(_adapter, registers, buffer));
        Assert.Equal(NtStatus.Success, _adapter.FlushAdapterBuffersEx(_mdl, registers, 0, 4096, true));
        Free(registers);
    }

    // Seen failing: told as a buffer still in use.
    [Fact]
    public void BuffersThatWereDisposed()
    {
        Mdl gone = Mdl.Allocate(_lab.Platform, 4096);
        ScatterGatherList list = _lab.List(_adapter, gone, 0, 4096, true);
        gone.Dispose();
        _lab.Put(_adapter, list, true);
        BrokeNothing();
        Assert.Throws<ObjectDisposedException>(() => _lab.List(_adapter, gone, 0, 4096, true));
        Assert.Equal(UsedAfterFree, Assert.Single(_violations.Select(static v => v.Rule).Distinct()));
        _violations.Clear();
    }

    // Seen failing: the second free of an adapter object that nobody told of.
    [Fact]
    public void AnAdapterObjectThatTheDeviceObjectDoesNotKeep()
    {
        StrongBox<MapRegisterBase?> box = new();
        DmaTransferContext context = new();
        _adapter.InitializeDmaTransferContext(context);
        Assert.Equal(NtStatus.Success, _lab.AtDispatch(() => _adapter.AllocateAdapterChannelEx(
            _lab.Device, context, 1, DmaFlags.SynchronousCallback, null, null, box)));
        _adapter.FreeAdapterObject(_lab.Device, KeepRegisters);
        BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => _adapter.FreeAdapterObject(_lab.Device, KeepRegisters));
        Broke(ChannelFreedTwice);
        Free(box.Value!);
    }

    private CommonBufferVector Vector()
    {
        Assert.Equal(NtStatus.Success, _adapter.AllocateCommonBufferVector(
            null, null, MemoryCachingType.Cached, 0, DomainCommonBufferFlags.None, 2, 4096,
            out CommonBufferVector? vector));
        return vector!;
    }
}

/// <summary>The handles where a device's addresses are memory's.</summary>
public sealed class IdentityHandleTests() : HandleTests("identity");

/// <summary>The handles where the device gets a copy.</summary>
public sealed class BounceHandleTests() : HandleTests("bounce");

/// <summary>The handles where a unit remaps.</summary>
public sealed class RemappingHandleTests() : HandleTests("remapping");

/// <summary>The handles where a unit remaps, and forgets later.</summary>
public sealed class DeferredHandleTests() : HandleTests("deferred");

/// <summary>The same under <see cref="VerificationMode.Throw"/>: a violation, and not what lies below.</summary>
public sealed class ThrowingHandleTests
{
    // Seen failing: map registers used after their free, of which nobody told: what lies below was thrown.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void WhatWasFreedIsAViolation(string backend)
    {
        using Lab lab = new(backend, options: new() { Verification = VerificationMode.Throw });
        WdmAdapter adapter = lab.Get(8 * 4096);
        Mdl mdl = lab.Buffer(4096);
        MapRegisterBase registers = ChannelTests.Granted(lab, adapter, 1);
        lab.AtDispatch(() => adapter.FreeMapRegisters(registers, 1));
        CommonBuffer ring = adapter.AllocateCommonBuffer(4096, out LogicalAddress address, true)!;
        adapter.FreeCommonBuffer(4096, address, ring, true);
        ScatterGatherList list = lab.List(adapter, mdl, 0, 4096, true);
        lab.Put(adapter, list, true);
        foreach (Action use in new Action[]
        {
            () =>
            {
                uint length = 4096;
                adapter.MapTransfer(mdl, registers, VirtualAddress.Of(mdl), ref length, true);
            },
            () =>
            {
                uint length = 4096;
                adapter.MapTransferEx(mdl, registers, 0, 0, ref length, true, new(adapter, 1000), null, null);
            },
            () => ring.Read32(0),
            () => _ = list[0],
        })
        {
            Assert.Equal(UsedAfterFree, Assert.Throws<DmaViolationException>(use).Violation.Rule);
        }
        Assert.Equal(0, adapter.Adapter.Statistics.Outstanding);
        adapter.PutDmaAdapter();
    }
}
