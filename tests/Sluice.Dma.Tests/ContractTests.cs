namespace Sluice.Dma.Tests;

/// <summary>Rules of the DMA contract that drivers rely on, by their numbers in the list of tests, on every
/// back-end.</summary>
public sealed class ContractTests : IDisposable
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private readonly TestPlatform _platform = new();

    public static TheoryData<string> All => BackendTests.All;

    public void Dispose() => _platform.Dispose();

    private DmaSystem Start(string backend) =>
        _platform.Start(BackendTests.PolicyOf(backend), BackendTests.OptionsOf(backend, pages: 512));

    private static byte[] Bytes(Mdl mdl)
    {
        byte[] bytes = new byte[mdl.ByteCount];
        mdl.Peek(0, bytes);
        return bytes;
    }

    private void Write(ScatterGatherLease list, byte[] bytes)
    {
        int done = 0;
        foreach (ScatterGatherElement element in list)
        {
            Assert.True(_platform.DmaWrite(Device, element.Address, bytes[done..(done + (int)element.Length)]));
            done += (int)element.Length;
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public void T06_DataFromTheDeviceIsThereAfterThePutAndWhereItIsCopiedNotBefore(string backend)
    {
        using DmaSystem system = Start(backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        using Mdl mdl = Mdl.Allocate(_platform, 20_000, 77);
        byte[] before = new byte[20_000], written = new byte[20_000];
        new Random(1).NextBytes(before);
        new Random(2).NextBytes(written);
        mdl.CopyFrom(0, before);
        foreach (DmaDirection direction in new[] { DmaDirection.FromDevice, DmaDirection.Bidirectional })
        {
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 20_000, direction, out ScatterGatherLease list));
            Write(list, written);
            bool copied = backend is "bounce" or "shadow";
            // Of an isolated transfer only head and tail are copied: 77 bytes into its first page, 81 into its last.
            Range there = backend == "isolated" ? 4019..16307 : ..;
            Assert.Equal((copied ? before : written)[there], Bytes(mdl)[there]);
            if (backend == "isolated") { Assert.Equal(before[..4019], Bytes(mdl)[..4019]); }
            list.Dispose();
            Assert.Equal(written, Bytes(mdl));
            (before, written) = (written, before);
        }
        // What the device writes where it may only read never arrives. (Without a unit, in place, it would.)
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 20_000, DmaDirection.ToDevice,
            out ScatterGatherLease last));
        if (backend != "none") { _platform.DmaWrite(Device, last[0].Address, written); }
        last.Dispose();
        Assert.Equal(before, Bytes(mdl));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void T21_ADeviceWithoutScatterGatherGetsOneElement(string backend)
    {
        using DmaSystem system = Start(backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new() { ScatterGather = false }, "old");
        using Mdl scattered = Mdl.Allocate(_platform, 50_000, 123);
        Assert.True(_platform.Frames.TryAllocate(FrameKind.Buffer, 14, out PhysicalAddress run));
        using Mdl contiguous = Mdl.Borrow(_platform, [run, run + 4096, run + 8192, run + 12288], 16_000, 300);
        Assert.True(adapter.TryGetScatterGatherList(contiguous, 0, 16_000, DmaDirection.ToDevice,
            out ScatterGatherLease list));
        Assert.Equal(16_000u, Assert.Single(list.Elements()).Length);
        list.Dispose();
        if (backend == "none")
        {
            Assert.Equal(DmaFailure.TooFragmented, Assert.Throws<DmaException>(
                () => adapter.TryGetScatterGatherList(scattered, 0, 50_000, DmaDirection.ToDevice, out _)).Failure);
            return;
        }
        byte[] bytes = new byte[50_000];
        new Random(3).NextBytes(bytes);
        Assert.True(adapter.TryGetScatterGatherList(scattered, 0, 50_000, DmaDirection.FromDevice, out list));
        Assert.Equal(50_000u, Assert.Single(list.Elements()).Length);
        Write(list, bytes);
        list.Dispose();
        Assert.Equal(bytes, Bytes(scattered));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void T21_ADeviceWithAPagePerEntryNeverSeesMore(string backend)
    {
        using DmaSystem system = Start(backend);
        using DmaAdapter adapter = system.CreateAdapter(
            Device, new() { MaximumSegment = 4096, BoundaryLog2 = 12 }, "prp");
        Assert.True(_platform.Frames.TryAllocate(FrameKind.Buffer, 14, out PhysicalAddress run));
        using Mdl mdl = Mdl.Borrow(_platform, [run, run + 4096, run + 8192, run + 12288], 16_000, 300);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 16_000, DmaDirection.ToDevice,
            out ScatterGatherLease list));
        Assert.Equal([3796u, 4096, 4096, 4012], list.Elements().Select(static e => e.Length));
        // All but the first begin a page.
        Assert.All(list.Elements().Skip(1), static e => Assert.True(e.Address.IsAligned(12)));
        Assert.Equal(300UL, list[0].Address.OffsetIn(12));
        list.Dispose();
    }

    // T22: scattered pages join, and are cut only where the device says so. Where nothing joins them (identity, and
    // shadow slots, which hold a page for each) they are elements as they lie.
    [Theory]
    [MemberData(nameof(All))]
    public void T22_ScatteredPagesJoinIntoOneElementWithinSegmentAndBoundary(string backend)
    {
        const uint Length = 256 * 4096;
        using DmaSystem system = Start(backend);
        // A machine that has just started has long runs of memory: that is when pools take theirs.
        system.CreateAdapter(Device, new(), "first").Dispose();
        system.CreateAdapter(Device, new() { AddressBits = 32 }, "first").Dispose();
        using Mdl mdl = Mdl.Allocate(_platform, Length);
        (DeviceDescription Device, int Elements)[] cases =
        [
            (new(), 1),
            (new() { ScatterGather = false, AddressBits = 32 }, 1),
            (new() { MaximumSegment = 65536 }, 16),
            (new() { BoundaryLog2 = 32 }, 1),
        ];
        foreach ((DeviceDescription device, int elements) in cases)
        {
            using DmaAdapter adapter = system.CreateAdapter(Device, device, "test");
            if (backend == "none" && (!device.ScatterGather || device.AddressBits == 32))
            {
                Assert.Contains(Assert.Throws<DmaException>(() => adapter.TryGetScatterGatherList(
                        mdl, 0, Length, DmaDirection.ToDevice, out _)).Failure,
                    new[] { DmaFailure.TooFragmented, DmaFailure.Unreachable });
                continue;
            }
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, Length, DmaDirection.ToDevice,
                out ScatterGatherLease list));
            if (backend == "none") { Assert.Equal(Runs(mdl, device.MaximumSegment), list.Count); }
            else { Assert.Equal(elements, list.Count); }
            list.Dispose();
        }
        using DmaAdapter bounded = system.CreateAdapter(Device, new() { BoundaryLog2 = 16 }, "test");
        Assert.True(bounded.TryGetScatterGatherList(mdl, 0, Length, DmaDirection.ToDevice, out ScatterGatherLease cut));
        if (backend != "none") { Assert.InRange(cut.Count, 16, 17); }
        Assert.All(cut.Elements(), static e =>
            Assert.Equal(e.Address.AlignDown(16), (e.Address + (e.Length - 1)).AlignDown(16)));
        cut.Dispose();
    }

    // Pages that follow each other in memory, cut where a segment is full.
    private static int Runs(Mdl mdl, uint maximumSegment)
    {
        (int runs, ulong bytes) = (1, 4096);
        for (int i = 1; i < mdl.Pages.Length; i++)
        {
            bool joins = mdl.Pages[i] == mdl.Pages[i - 1] + 4096 && bytes + 4096 <= maximumSegment;
            (runs, bytes) = joins ? (runs, bytes + 4096) : (runs + 1, 4096);
        }
        return runs;
    }
}
