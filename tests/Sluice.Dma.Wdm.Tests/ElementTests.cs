namespace Sluice.Dma.Wdm.Tests;

/// <summary>What a device is told: T21 to T23 at the DDI.</summary>
public sealed class ElementTests
{
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T21_WithoutScatterGatherAListHasOneElement(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(8 * 4096, scatterGather: false);
        uint length = (uint)Math.Min(8, adapter.NumberOfMapRegisters) * 4096;
        Mdl mdl = lab.Buffer(8 * 4096);
        ScatterGatherList list = lab.List(adapter, mdl, 0, length, true);
        Assert.Equal((1, length), (list.NumberOfElements, list[0].Length));
        Assert.Equal(Lab.Bytes(mdl, 0, length), lab.DeviceReads(list));
        lab.Put(adapter, list, true);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T21_PagesThatFollowEachOtherAreOneElement(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4 * 4096);
        Assert.True(lab.Platform.TestFrames.TryAllocate(FrameKind.Buffer, 14, out PhysicalAddress first));
        PhysicalAddress[] pages = [.. Enumerable.Range(0, 4).Select(i => first + ((ulong)i << 12))];
        using (Mdl mdl = Mdl.Borrow(lab.Platform, pages, 4 * 4096))
        {
            ScatterGatherList list = lab.List(adapter, mdl, 0, 4 * 4096, true);
            Assert.True(list.NumberOfElements == 1 || backend == "bounce");
            lab.Put(adapter, list, true);
        }
        lab.Platform.TestFrames.Free(first, 14);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T22_ScatteredPagesAreOneElementUnderRemapping(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(100 * 4096);
        Mdl mdl = lab.Buffer(100 * 4096);
        ScatterGatherList list = lab.List(adapter, mdl, 0, 100 * 4096, true);
        if (lab.IsRemapped) { Assert.Equal(1, list.NumberOfElements); }
        if (backend == "identity") { Assert.True(list.NumberOfElements > 50); }
        Assert.Equal(100 * 4096, Enumerable.Range(0, list.NumberOfElements).Sum(i => list[i].Length));
        lab.Put(adapter, list, true);
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T23_A32BitDeviceReachesMemoryAbove4GiBWithoutCopyOnlyUnderRemapping(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096, width: 32);
        Mdl mdl = High(lab);
        NtStatus status = lab.AtDispatch(() => adapter.GetScatterGatherList(
            lab.Device, mdl, VirtualAddress.Of(mdl), 4096, (_, _, list, _) =>
            {
                Assert.True(list[0].Address.Value <= uint.MaxValue - 4095);
                lab.DeviceWrites(list, Lab.Random(4096, 2));
                adapter.PutScatterGatherList(list, false);
            }, null, false));
        Assert.Equal(backend == "identity" ? NtStatus.InsufficientResources : NtStatus.Success, status);
        if (backend != "identity") { Assert.Equal(Lab.Random(4096, 2), Lab.Bytes(mdl, 0, 4096)); }
        Assert.Equal(backend == "bounce" ? 4096 : 0, adapter.Adapter.Statistics.BouncedBytes);
        adapter.PutDmaAdapter();
    }

    internal static Mdl High(Lab lab)
    {
        for (int seed = 0; ; seed++)
        {
            Mdl mdl = lab.Buffer(4096, 0, seed);
            if (mdl.Pages[0].Value >= TestPlatform.High) { return mdl; }
        }
    }
}
