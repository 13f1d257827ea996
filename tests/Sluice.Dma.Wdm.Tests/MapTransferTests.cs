namespace Sluice.Dma.Wdm.Tests;

/// <summary>MapTransferEx when something goes wrong in its middle.</summary>
public sealed class MapTransferTests
{
    // Seen failing: a map that threw kept its list's memory for ever.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void AMapThatThrowsGivesTheListsMemoryBack(string backend)
    {
        using Lab lab = new(backend, options: new() { Verification = VerificationMode.Throw });
        WdmAdapter adapter = lab.Get(8192);
        Mdl mdl = lab.Buffer(4096), gone = lab.Buffer(4096);
        ScatterGatherBuffer buffer = new(adapter, ScatterGatherBuffer.BytesFor(2));
        MapRegisterBase granted = ChannelTests.Granted(lab, adapter, 1);
        lab.Platform.TestFrames.Mark(mdl.Pages[0], FrameKind.Kernel);
        Assert.ThrowsAny<DmaException>(() => Map(granted, mdl));
        lab.Platform.TestFrames.Mark(mdl.Pages[0], FrameKind.Buffer);
        MapAndFlush();
        gone.Dispose();
        Assert.ThrowsAny<Exception>(() => Map(granted, gone));
        MapAndFlush();
        MapRegisterBase freed = granted;
        lab.AtDispatch(() => adapter.FreeMapRegisters(freed, 1));
        Assert.ThrowsAny<Exception>(() => Map(freed, mdl));
        granted = ChannelTests.Granted(lab, adapter, 1);
        MapAndFlush();
        lab.AtDispatch(() => adapter.FreeMapRegisters(granted, 1));
        adapter.PutDmaAdapter();

        void MapAndFlush()
        {
            Assert.Equal(NtStatus.Success, Map(granted, mdl));
            Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(mdl, granted, 0, 4096, true));
        }

        NtStatus Map(MapRegisterBase registers, Mdl of)
        {
            uint length = 4096;
            return adapter.MapTransferEx(of, registers, 0, 0, ref length, true, buffer, null, null);
        }
    }

    // Seen failing: a list that was shortened served another driver's routine inside the registers' lock.
    [Theory]
    [InlineData("remapping")]
    [InlineData("deferred")]
    public void NobodysRoutineRunsInsideALockWhenAListIsShortened(string backend)
    {
        const uint Long = 513 * 4096;
        using Lab lab = new(backend, bytesPerBank: 8 << 20);
        WdmAdapter adapter = lab.Get(Long);
        Mdl mdl = lab.Buffer(Long), chain = lab.Chain((100, 5), (100, 7));
        ScatterGatherBuffer one = new(adapter, ScatterGatherBuffer.BytesFor(1));
        MapRegisterBase granted = ChannelTests.Granted(lab, adapter, 2);
        // It waits for memory, which nobody says is there again: whoever gives something back finds out.
        lab.Platform.TestFrames.Limit(0);
        ScatterGatherList? other = null;
        bool passed = false;
        Assert.Equal(NtStatus.Success, lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), Long, (_, _, list, _) =>
            {
                other = list;
                Thread flush = new(() => adapter.FlushAdapterBuffersEx(chain, granted, 0, 1, true));
                flush.Start();
                passed = flush.Join(TimeSpan.FromSeconds(5));
            }, null, true)));
        Assert.Null(other);
        lab.Platform.TestFrames.Limit(int.MaxValue);
        uint length = 200;
        Assert.Equal(NtStatus.Success, adapter.MapTransferEx(chain, granted, 0, 0, ref length, true, one, null, null));
        Assert.Equal(100u, length);
        Assert.NotNull(other);
        Assert.True(passed, "another thread waited for the lock of the map registers");
        Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(chain, granted, 0, 100, true));
        lab.Put(adapter, other, true);
        lab.AtDispatch(() => adapter.FreeMapRegisters(granted, 2));
        adapter.PutDmaAdapter();
    }

    // Seen failing: the routine of a list that was served inside a map found the map registers free for another map.
    [Theory]
    [InlineData("remapping")]
    [InlineData("deferred")]
    public void D12_RegistersThatAreBeingMappedAreNeitherMappedNorFreedByAnother(string backend)
    {
        const uint Long = 513 * 4096;
        using Lab lab = new(backend, bytesPerBank: 8 << 20);
        WdmAdapter adapter = lab.Get(Long);
        Mdl mdl = lab.Buffer(Long), chain = lab.Chain((100, 5), (100, 7));
        ScatterGatherBuffer one = new(adapter, ScatterGatherBuffer.BytesFor(1));
        ScatterGatherBuffer two = new(adapter, ScatterGatherBuffer.BytesFor(1));
        MapRegisterBase granted = ChannelTests.Granted(lab, adapter, 2);
        lab.Platform.TestFrames.Limit(0);
        ScatterGatherList? other = null;
        NtStatus inside = NtStatus.Success;
        Assert.Equal(NtStatus.Success, lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), Long, (_, _, list, _) =>
            {
                other = list;
                uint again = 100;
                inside = adapter.MapTransferEx(chain, granted, 0, 0, ref again, true, two, null, null);
                Assert.Throws<InvalidOperationException>(() => adapter.FreeMapRegisters(granted, 2));
            }, null, true)));
        lab.Platform.TestFrames.Limit(int.MaxValue);
        uint length = 200;
        Assert.Equal(NtStatus.Success, adapter.MapTransferEx(chain, granted, 0, 0, ref length, true, one, null, null));
        Assert.Equal(NtStatus.InvalidParameter, inside);
        Assert.Equal(NtStatus.Success, adapter.FlushAdapterBuffersEx(chain, granted, 0, length, true));
        lab.Put(adapter, other!, true);
        lab.AtDispatch(() => adapter.FreeMapRegisters(granted, 2));
        adapter.PutDmaAdapter();
    }
}
