using static Sluice.Dma.VerificationRule;

namespace Sluice.Dma.Tests.Verification;

/// <summary>
/// The 23 checks of Linux's dma-debug, each broken once and once nearly. What only the faithful layer lets a driver
/// say (a length at a put, an address at a free) is said to the verifier directly here.
/// </summary>
/// <remarks>Seen failing: each rule silenced by itself.</remarks>
public sealed class DmaDebugTests : IDisposable
{
    private readonly VerificationLab _lab = new(device: new() { MaximumSegment = 4096, BoundaryLog2 = 13 });
    private readonly Mdl _mdl;

    public DmaDebugTests() => _mdl = _lab.Buffer();

    public void Dispose() => _lab.Dispose();

    [Fact]
    public void D01_WhatIsPutWasNeverGot()
    {
        _lab.Get(_mdl).Dispose();
        _lab.BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => _lab.Adapter.PutScatterGatherList(default));
        _lab.Broke(NeverGot);
    }

    [Fact]
    public void D02_WhatIsPutIsNotThisAdapters()
    {
        using DmaAdapter edu = _lab.System.CreateAdapter(VerificationLab.Edu, new(), "edu");
        ScatterGatherLease list = _lab.Get(_mdl, adapter: edu);
        Assert.Throws<InvalidOperationException>(() => _lab.Adapter.PutScatterGatherList(list));
        Assert.Equal("scatter/gather list #1 belongs to edu 0000:00:05.0", _lab.Broke(NotOfThisAdapter).Line);
        edu.PutScatterGatherList(list);
        _lab.BrokeNothing();
    }

    [Fact]
    public void D02_WhatIsPutIsGoneForLong()
    {
        ScatterGatherLease stale = _lab.Get(_mdl);
        stale.Dispose();
        // The record serves others meanwhile.
        for (int i = 0; i < 2000; i++) { _lab.Get(_mdl).Dispose(); }
        _lab.BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => _lab.Adapter.PutScatterGatherList(stale));
        DmaViolation violation = _lab.Broke(ListPutTwice);
        Assert.Null(violation.Mapping);
        Assert.Equal("scatter/gather list #1 was put before", violation.Line);
    }

    [Fact]
    public void D03_TheLengthDiffers()
    {
        ScatterGatherLease list = _lab.Get(_mdl, length: 5000);
        _lab.Verifier.OnPut(list, null, 5000, null, VerificationLab.Site);
        _lab.BrokeNothing();
        _lab.Verifier.OnPut(list, null, 4999, null, VerificationLab.Site);
        Assert.Equal("got with 5000 bytes, given back with 4999", _lab.Broke(LengthDiffers).Line);
        list.Dispose();
        using CommonBuffer ring = _lab.Adapter.AllocateCommonBuffer(5000);
        _lab.Verifier.OnFree(ring, ring.Address, 5000, true, VerificationLab.Site);
        _lab.BrokeNothing();
        _lab.Verifier.OnFree(ring, ring.Address, 4096, true, VerificationLab.Site);
        _lab.Broke(LengthDiffers);
    }

    [Fact]
    public void D05_TheAddressDiffers()
    {
        using CommonBuffer ring = _lab.Adapter.AllocateCommonBuffer(5000);
        _lab.Verifier.OnFree(ring, ring.Address, 5000, true, VerificationLab.Site);
        _lab.BrokeNothing();
        _lab.Verifier.OnFree(ring, ring.Address, 5000, false, VerificationLab.Site);
        _lab.Broke(AddressDiffers);
        _lab.Verifier.OnFree(ring, ring.Address + 1, 5000, true, VerificationLab.Site);
        _lab.Broke(AddressDiffers);
    }

    [Fact]
    public void D06_TheNumberOfElementsDiffers()
    {
        ScatterGatherLease list = _lab.Get(_mdl);
        _lab.Verifier.OnPut(list, null, null, list.Count, VerificationLab.Site);
        _lab.BrokeNothing();
        _lab.Verifier.OnPut(list, null, null, list.Count - 1, VerificationLab.Site);
        _lab.Broke(ElementCountDiffers);
        list.Dispose();
    }

    [Fact]
    public void D07_TheDirectionDiffers()
    {
        ScatterGatherLease list = _lab.Get(_mdl, DmaDirection.FromDevice);
        _lab.Verifier.OnPut(list, DmaDirection.FromDevice, null, null, VerificationLab.Site);
        _lab.BrokeNothing();
        _lab.Verifier.OnPut(list, DmaDirection.ToDevice, null, null, VerificationLab.Site);
        Assert.Equal("got for FromDevice, given back for ToDevice", _lab.Broke(DirectionDiffers).Line);
        list.Dispose();
    }

    [Fact]
    public void D08_TheDriverDidNotLookWhetherItGotAList()
    {
        using VerificationLab lab = new(new() { MapRegistersPerAdapter = 2 });
        Mdl mdl = lab.Buffer();
        ScatterGatherLease first = lab.Get(mdl);
        Assert.False(lab.Adapter.TryGetScatterGatherList(mdl, 0, 1, DmaDirection.ToDevice,
            out ScatterGatherLease none));
        lab.BrokeNothing();
        Assert.Throws<InvalidOperationException>(() => lab.Adapter.PutScatterGatherList(none));
        lab.Broke(ResultIgnored);
        Assert.Throws<InvalidOperationException>(() => lab.Adapter.PutScatterGatherList(none));
        lab.Broke(NeverGot);
        first.Dispose();
    }

    [Theory]
    [InlineData(StackMemory, FrameKind.Kernel, 0x0200_0000UL, "the first processor's stack")]
    [InlineData(KernelMemory, FrameKind.Kernel, 0x0200_1000UL, "interrupt table")]
    [InlineData(KernelMemory, FrameKind.UnitTable, 0x0200_2000UL, null)]
    [InlineData(NoMemory, FrameKind.Absent, 0x000F_FFFF_FFFF_F000UL, null)]
    [InlineData(VirtualAddress, FrameKind.Absent, 0x0010_0000_0000_0000UL, null)]
    [InlineData(VirtualAddress, FrameKind.Absent, 0xFFFF_C900_0000_0000UL, null)]
    public void D09_D10_D11_D12_APageIsNoBuffers(VerificationRule rule, FrameKind kind, ulong page, string? name)
    {
        using VerificationLab lab = new(new() { RegionNames = new OneName(new(page), name) });
        using Mdl mdl = Mdl.Borrow(lab.Platform, [new(page)], 512);
        lab.Platform.TestFrames.Mark(new(page), kind);
        Assert.Equal(DmaFailure.NotABuffer, Assert.Throws<DmaException>(() => lab.Get(mdl)).Failure);
        DmaViolation violation = lab.Broke(rule);
        Assert.StartsWith($"the page at 0x{page:X} of the buffer is {name}", violation.Line, StringComparison.Ordinal);
        lab.Get(lab.Buffer()).Dispose();
        lab.BrokeNothing();
    }

    private sealed class OneName(PhysicalAddress at, string? name) : IPhysicalRegionNames
    {
        public string? NameOf(PhysicalAddress address) => address == at ? name : null;
    }

    [Theory]
    [InlineData(SegmentTooLong, 0u, 4097u)]
    [InlineData(BoundaryCrossed, 8191u, 2u)]
    public void D13_D14_AnElementIsNotAsTheDeviceTakesIt(VerificationRule rule, uint at, uint length)
    {
        DeviceDescription device = new() { MaximumSegment = 4096, BoundaryLog2 = 13 };
        using DmaAdapter broken = _lab.System.Add(VerificationLab.Edu, device, "edu",
            () => new BrokenBackend(new(at), length));
        ScatterGatherLease list = _lab.Get(_mdl, length: length, adapter: broken);
        _lab.Broke(rule);
        list.Dispose();
        using DmaAdapter mended = _lab.System.Add(PciAddress.From(0, 6, 0), device, "edu",
            () => new BrokenBackend(new(at + 1), Math.Min(length, 4096)));
        _lab.Get(_mdl, length: length, adapter: mended).Dispose();
        _lab.BrokeNothing();
    }

    // Cuts nothing.
    private sealed class BrokenBackend(LogicalAddress first, uint length) : StubBackend
    {
        public override DmaFailure TryMap(
            Mapping mapping, ref ElementBuilder list, out Footprint footprint, out PhysicalAddress culprit)
        {
            (mapping.Only, mapping.Count) = (new(first, length), 1);
            (footprint, culprit) = (new(LogicalRange.FromLength(first, length), first), default);
            return DmaFailure.None;
        }
    }

    [Fact]
    public void D15_D16_TheSameBytesAreMappedOften()
    {
        List<ScatterGatherLease> lists = [];
        for (int i = 0; i < 8; i++)
        {
            lists.Add(_lab.Get(_mdl, DmaDirection.FromDevice, 100, 10));
            if (i == 0) { _lab.BrokeNothing(); }
            else { _lab.Broke(AlreadyMapped, 1); }
        }
        lists.Add(_lab.Get(_mdl, DmaDirection.FromDevice, 100, 10));
        Assert.Equal([AlreadyMapped, TooManyOverlaps], _lab.Violations.Select(static v => v.Rule));
        Assert.EndsWith("mapped 9 times", _lab.Violations[1].Line, StringComparison.Ordinal);
        _lab.Violations.Clear();
        lists.ForEach(static l => l.Dispose());
        _lab.BrokeNothing();
    }

    [Fact]
    public void D17_WhatIsHandedOverIsNotMapped()
    {
        ScatterGatherLease list = _lab.Get(_mdl);
        _lab.Verifier.OnSync(list, 0, 10, DmaDirection.ToDevice, null, false, VerificationLab.Site);
        _lab.BrokeNothing();
        list.Dispose();
        _lab.Verifier.OnSync(list, 0, 10, DmaDirection.ToDevice, null, false, VerificationLab.Site);
        Assert.Equal(1, _lab.Broke(SyncOfUnmapped).Mapping?.Number);
        _lab.Verifier.OnSync(default, 0, 10, DmaDirection.ToDevice, null, false, VerificationLab.Site);
        _lab.Broke(SyncOfUnmapped);
    }

    [Theory]
    [InlineData(SyncOutside, DmaDirection.Bidirectional, 4u, 5u, DmaDirection.FromDevice, 1, true)]
    [InlineData(SyncDirectionDiffers, DmaDirection.ToDevice, 0u, 8u, DmaDirection.FromDevice, 1, true)]
    [InlineData(SyncForProcessorOfToDevice, DmaDirection.ToDevice, 0u, 8u, DmaDirection.ToDevice, 1, true)]
    [InlineData(SyncForDeviceOfFromDevice, DmaDirection.FromDevice, 0u, 8u, DmaDirection.FromDevice, 1, false)]
    [InlineData(SyncCountDiffers, DmaDirection.Bidirectional, 0u, 8u, DmaDirection.ToDevice, 2, false)]
    [InlineData(null, DmaDirection.Bidirectional, 4u, 4u, DmaDirection.FromDevice, 1, true)]
    [InlineData(null, DmaDirection.FromDevice, 0u, 8u, DmaDirection.FromDevice, 1, true)]
    [InlineData(null, DmaDirection.ToDevice, 0u, 8u, DmaDirection.ToDevice, null, false)]
    public void D18_D19_D20_D21_D22_ABufferIsHandedOverOtherwiseThanItIsMapped(
        VerificationRule? rule, DmaDirection mapped, uint offset, uint length, DmaDirection said, int? elements,
        bool forProcessor)
    {
        ScatterGatherLease list = _lab.Get(_mdl, mapped, 100, 8);
        _lab.Verifier.OnSync(list, offset, length, said, elements, forProcessor, VerificationLab.Site);
        if (rule is { } broken) { _lab.Broke(broken); }
        list.Dispose();
        _lab.BrokeNothing();
    }

    [Fact]
    public void D23_TheDriverGoesWhileMappingsAreOutstanding()
    {
        for (int i = 0; i < 3; i++) { _lab.Get(_mdl); }
        _lab.Adapter.Dispose();
        DmaViolation violation = _lab.Broke(ListsOutstanding);
        Assert.Equal("released with 3 scatter/gather lists outstanding; the oldest is #1", violation.Line);
        Assert.Equal("VerificationLab.Get", violation.Mapping?.MapSite.ToString());
        Assert.Equal(0, _lab.System.Verifier!.Pages.Count);
    }
}

/// <summary>A back-end that maps nothing.</summary>
internal abstract class StubBackend : IDmaBackend
{
    public void Revoke()
    {
    }

    public string Name => "stub";

    public bool ReportsFaults => false;

    public long BouncedBytes => 0;

    public DmaCapabilities Capabilities => new()
    {
        Kind = DmaBackendKind.Identity, Reason = "a test", AddressBits = 64,
    };

    public DmaFailure TryReserve(int pages, out BackendReservation? reservation) => throw new NotSupportedException();

    public void Unreserve(BackendReservation reservation) => throw new NotSupportedException();

    public abstract DmaFailure TryMap(
        Mapping mapping, ref ElementBuilder list, out Footprint footprint, out PhysicalAddress culprit);

    public bool Unmap(Mapping mapping) => true;

    public DmaFailure TryAllocateCommon(in CommonRequest request, out CommonMemory memory) =>
        throw new NotSupportedException();

    public DmaFailure TryMapCommon(in CommonRequest request, PhysicalAddress[] pages, out CommonMemory memory,
        out PhysicalAddress culprit) => throw new NotSupportedException();

    public bool FreeCommon(in CommonMemory memory) => true;

    public void Close(bool leaked)
    {
    }

    public void Release()
    {
    }
}
