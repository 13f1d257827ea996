namespace Sluice.Dma.Wdm.Tests;

    // Seen failing: a free that did not look at the length.
/// <summary>Rows 2, 3, 19, 29, 31 to 35: common buffers and domains.</summary>
public sealed class CommonBufferTests
{
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T17_BothSidesSeeOneLogicalRun(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096);
        foreach (ulong length in new ulong[] { 1, 4096, 4097, 40_000 })
        {
            CommonBuffer? buffer = adapter.AllocateCommonBuffer(length, out LogicalAddress address, true);
            Assert.Equal((length, buffer!.Address), (buffer.Length, address));
            buffer.GetSpan(length - 1, 1)[0] = 0x5A;
            byte[] last = new byte[1];
            Assert.True(lab.Platform.DmaRead(Lab.Slot, address + (length - 1), last));
            Assert.Equal(0x5A, last[0]);
            Assert.True(lab.Platform.DmaWrite(Lab.Slot, address, [7]));
            Assert.Equal(7, buffer.GetSpan(0, 1)[0]);
            // All of it, exactly, once.
            Assert.Throws<InvalidOperationException>(() => adapter.FreeCommonBuffer(length + 1, address, buffer, true));
            Assert.Throws<InvalidOperationException>(() => adapter.FreeCommonBuffer(length, address + 1, buffer, true));
            adapter.FreeCommonBuffer(length, address, buffer, true);
            Assert.Throws<InvalidOperationException>(() => adapter.FreeCommonBuffer(length, address, buffer, true));
            if (lab.Name == "remapping") { Assert.False(lab.Platform.DmaRead(Lab.Slot, address, last)); }
        }
        Assert.Null(adapter.AllocateCommonBuffer(0, out _, true));
        Assert.Null(adapter.AllocateCommonBuffer(1UL << 40, out _, true));
        adapter.PutDmaAdapter();
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T17_BoundsAreInclusiveAndLargePagesAligned(string backend)
    {
        using Lab lab = new(backend, bytesPerBank: 8 << 20);
        WdmAdapter adapter = lab.Get(4096);
        LogicalAddress top = new(TestPlatform.High - 1);
        CommonBuffer? low = adapter.AllocateCommonBufferEx(top, 8192, out LogicalAddress address, true, 0);
        Assert.True(low!.LastAddress <= top);
        adapter.FreeCommonBuffer(8192, address, low, true);

        // Exactly so much room, and one byte less.
        LogicalAddress first = new(lab.IsRemapped ? 0x4000_0000 : TestPlatform.Low + 0x0010_0000);
        CommonBuffer? exact = adapter.AllocateCommonBufferWithBounds(
            first, first + 0x1FFFF, 0x20000, DomainCommonBufferFlags.None, MemoryCachingType.Cached, 0, out address);
        Assert.Equal(first, address);
        adapter.FreeCommonBuffer(0x20000, address, exact!, true);
        Assert.Null(adapter.AllocateCommonBufferWithBounds(
            first, first + 0x1FFFE, 0x20000, DomainCommonBufferFlags.None, null, 0, out address));
        Assert.Equal(default, address);

        CommonBuffer? large = adapter.AllocateCommonBufferWithBounds(
            null, null, 1 << 21, DomainCommonBufferFlags.LargePage, null, 0, out address);
        Assert.True(address.IsAligned(21));
        adapter.FreeCommonBuffer(1 << 21, address, large!, true);
        Assert.Null(adapter.AllocateCommonBufferWithBounds(
            null, null, 4096, DomainCommonBufferFlags.None, MemoryCachingType.WriteCombined, 0, out _));
        adapter.PutDmaAdapter();
    }

    // Seen failing: the end of a vector that frees what is left.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T18_VectorsAreMisusedInFiveWays(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096);
        Assert.Equal(NtStatus.Success, adapter.AllocateCommonBufferVector(
            null, null, MemoryCachingType.Cached, 0, DomainCommonBufferFlags.None, 3, 5000, out CommonBufferVector? v));
        for (int i = 0; i < 3; i++)
        {
            adapter.GetCommonBufferFromVectorByIndex(v!, i, out CommonBuffer buffer, out LogicalAddress address);
            Assert.Equal((5000UL, address), (buffer.Length, buffer.Address));
            Assert.True(lab.Platform.DmaWrite(Lab.Slot, address, [(byte)(i + 1)]));
        }
        adapter.GetCommonBufferFromVectorByIndex(v!, 1, out CommonBuffer second, out _);
        Assert.Equal(2, second.GetSpan(0, 1)[0]);

        Assert.Throws<IrqlException>(() => lab.AtDispatch(() => adapter.FreeCommonBufferFromVector(v!, 0)));
        Assert.Equal(2, Code(() => adapter.FreeCommonBufferVector(v!)));
        Assert.Equal(3, Code(() => adapter.FreeCommonBufferFromVector(v!, 3)));
        Assert.Equal(3, Code(() => adapter.GetCommonBufferFromVectorByIndex(v!, -1, out _, out _)));
        adapter.FreeCommonBufferFromVector(v!, 1);
        Assert.Equal(4, Code(() => adapter.FreeCommonBufferFromVector(v!, 1)));
        Assert.Equal(4, Code(() => adapter.GetCommonBufferFromVectorByIndex(v!, 1, out _, out _)));
        adapter.FreeCommonBufferFromVector(v!, 0);
        adapter.FreeCommonBufferFromVector(v!, 2);
        adapter.FreeCommonBufferVector(v!);

        Assert.Equal(NtStatus.InvalidParameter, adapter.AllocateCommonBufferVector(
            null, null, MemoryCachingType.Cached, 0, DomainCommonBufferFlags.None, 0, 5000, out _));
        Assert.Equal(NtStatus.InsufficientResources, adapter.AllocateCommonBufferVector(
            null, null, MemoryCachingType.Cached, 0, DomainCommonBufferFlags.None, 500, 1 << 20, out v));
        Assert.Null(v);
        adapter.PutDmaAdapter();

        static int Code(Action misuse) => Assert.Throws<CommonBufferVectorException>(misuse).Code;
    }

    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T18_AVectorThatIsNeverFreedIsALeakWithItsOwner(string backend)
    {
        using TestPlatform platform = new(1, 2 << 20);
        using DmaSystem system = Backend.Start(platform, backend);
        WdmDma dma = new(system);
        WdmAdapter adapter = dma.IoGetDmaAdapter(new(Lab.Slot, "leaky"), Lab.Master(4096), out _)!;
        adapter.AllocateCommonBufferVector(
            null, null, MemoryCachingType.Cached, 0, DomainCommonBufferFlags.None, 2, 4096, out _);
        adapter.PutDmaAdapter();
        Assert.Equal(2, system.Leaks.Count);
        Assert.All(system.Leaks, leak => Assert.Contains("leaky", leak.ToString(), StringComparison.Ordinal));
    }

    // Seen failing: a kind of configuration twice.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void T19_OnlyWholeResidentPagesOfOneMdlBecomeACommonBuffer(string backend)
    {
        using Lab lab = new(backend);
        WdmAdapter adapter = lab.Get(4096);
        Mdl chain = lab.Chain((8192, 0), (8192, 0));
        Mdl odd = lab.Buffer(8192, 16), part = lab.Buffer(5000);
        CommonBufferConfig.HardwareAccess both = new(DmaAccess.ReadWrite);
        Assert.Equal(NtStatus.InvalidParameter, Create(chain));
        Assert.Equal(NtStatus.InvalidParameter, Create(odd));
        Assert.Equal(NtStatus.InvalidParameter, Create(part));
        Assert.Equal(NtStatus.InvalidParameter, Create(chain, new CommonBufferConfig.SubSection(4096, 8192)));
        Assert.Equal(NtStatus.InvalidParameter, Create(chain, new CommonBufferConfig.SubSection(100, 4096)));
        Assert.Equal(NtStatus.InvalidParameter, Create(chain, new CommonBufferConfig.SubSection(0, 0)));
        CommonBufferConfig.SubSection onePage = new(4096, 4096);
        Assert.Equal(NtStatus.InvalidParameter, Create(chain, onePage, both, both));
        Assert.Equal(NtStatus.InvalidParameter, Create(chain, onePage, onePage));
        // One page of it is one run everywhere.
        Assert.Equal(NtStatus.Success, Create(chain, onePage, both));
        Mdl scattered = lab.Buffer(16 * 4096);
        Assert.Equal(lab.IsRemapped ? NtStatus.Success : NtStatus.NotSupported, Create(scattered));
        foreach (DmaAccess access in new[] { DmaAccess.Read, DmaAccess.Write })
        {
            Assert.Equal(lab.IsRemapped ? NtStatus.Success : NtStatus.NotSupported,
                Create(scattered, new CommonBufferConfig.HardwareAccess(access)));
        }
        adapter.PutDmaAdapter();

        NtStatus Create(Mdl mdl, params CommonBufferConfig[] configs)
        {
            NtStatus status = adapter.CreateCommonBufferFromMdl(
                mdl, configs, out LogicalAddress address, out CommonBuffer? b);
            Assert.Equal(status.IsSuccess(), b is not null);
            if (b is null) { return status; }
            bool writes = !configs.Contains(new CommonBufferConfig.HardwareAccess(DmaAccess.Read));
            byte[] before = b.GetSpan(0, 16).ToArray();
            Assert.Equal(writes, lab.Platform.DmaWrite(Lab.Slot, address, [1, 2, 3]));
            Assert.Equal(writes ? [1, 2, 3, .. before[3..]] : before, b.GetSpan(0, 16).ToArray());
            adapter.FreeCommonBuffer(b.Length, address, b, true);
            return status;
        }
    }

    // Seen failing: a join that did nothing.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void DomainsAreJoinedSharedAndLeft(string backend)
    {
        using Lab lab = new(backend);
        PciAddress otherSlot = PciAddress.From(0, 5, 0);
        WdmAdapter one = lab.Get(4096);
        WdmAdapter two = lab.Dma.IoGetDmaAdapter(new(otherSlot, "other"), Lab.Master(4096), out _)!;
        Assert.Equal(!lab.IsRemapped, one.GetDmaDomain() == two.GetDmaDomain());
        Assert.Equal(NtStatus.Success, two.JoinDmaDomain(one.GetDmaDomain()));
        Assert.Same(one.GetDmaDomain(), two.GetDmaDomain());

        Assert.Equal(NtStatus.Success, one.AllocateDomainCommonBuffer(
            one.GetDmaDomain(), null, 4096, DomainCommonBufferFlags.None, MemoryCachingType.Cached, 0,
            out LogicalAddress address, out CommonBuffer? buffer));
        Assert.True(lab.Platform.DmaWrite(otherSlot, address, [9]));
        Assert.Equal(9, buffer!.GetSpan(0, 1)[0]);
        if (lab.IsRemapped)
        {
            Assert.Equal(NtStatus.InvalidDeviceRequest, one.LeaveDmaDomain());
            Assert.Equal(NtStatus.Success, two.LeaveDmaDomain());
            Assert.False(lab.Platform.DmaWrite(otherSlot, address, [8]));
            Assert.Equal(NtStatus.InvalidDeviceRequest, two.LeaveDmaDomain());
            Assert.Equal(NtStatus.InvalidParameter, two.AllocateDomainCommonBuffer(
                one.GetDmaDomain(), null, 4096, DomainCommonBufferFlags.None, MemoryCachingType.Cached, 0, out _,
                out _));
        }
        Assert.Equal(9, buffer.GetSpan(0, 1)[0]);
        one.FreeCommonBuffer(4096, address, buffer, true);
        // What was set aside for lists came with the device: with no memory left one still goes through.
        Mdl mdl = lab.Buffer(4096);
        lab.Put(two, lab.List(two, mdl, 0, 4096, true), true);
        two.PutDmaAdapter();
        one.PutDmaAdapter();
    }
}
