namespace Sluice.Dma.Tests;

/// <summary>What is copied, and what not, where nothing remaps.</summary>
public sealed class BounceTests : IDisposable
{
    private const ulong FourGiB = 0x1_0000_0000;
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private readonly TestPlatform _platform = new();

    public void Dispose() => _platform.Dispose();

    private static DmaOptions Options(int pages = 64, int most = 0, bool trusts = true, int areas = 2) => new()
    {
        Bounce = new() { Pages = pages, MaximumPages = Math.Max(pages, most), Areas = areas },
        Trusts = _ => trusts,
    };

    private Mdl Buffer(ulong first, int count, uint length, int offset = 0)
    {
        PhysicalAddress[] pages =
            [.. Enumerable.Range(0, count).Select(i => new PhysicalAddress(first) + ((ulong)i << 12))];
        foreach (PhysicalAddress page in pages) { _platform.TestFrames.Mark(page, FrameKind.Buffer); }
        return Mdl.Borrow(_platform, pages, length, offset);
    }

    // Every rule at once, against an oracle that looks at every byte: which bytes lie where they lie, which are copied,
    // what the rest of a bounce page holds, what a short transfer leaves, and how many bytes were counted.
    // Seen failing: copy-back over whole pages; trust ignored; whole pages of an untrusted device copied too; no copy
    // of the buffer's old bytes for data from the device; that copy counted; the tail of a page left dirty.
    [Fact]
    public void OnlyWhatMustBeCopiedIsCopiedAndNobodyElsesBytesAreSeen()
    {
        for (int round = 0; round < 60; round++)
        {
            Random random = new(round);
            bool trusts = random.Next(2) == 0;
            using TestPlatform platform = new(round, 1 << 20);
            using DmaSystem system = platform.Start(null, Options(trusts: trusts, areas: 1 + (round % 3)));
            DeviceDescription device = new()
            {
                AddressBits = random.Next(3) == 0 ? 64 : 32,
                MaximumSegment = random.Next(2) == 0 ? uint.MaxValue : (uint)random.Next(1, 9000),
                BoundaryLog2 = random.Next(2) == 0 ? 64 : random.Next(5, 15),
            };
            using DmaAdapter adapter = system.CreateAdapter(Device, device, "test");
            List<Mdl> all = [];
            Mdl chain = ElementTests.RandomChain(platform, random, all);
            byte[] before = new byte[chain.ChainByteCount];
            random.NextBytes(before);
            for (int i = 0; i < before.Length; i++) { before[i] |= 1; }
            chain.CopyFrom(0, before);
            long counted = 0;
            // More than once: pages are dirty from the second time on.
            for (int again = 0; again < 3; again++)
            {
                uint offset = (uint)random.Next(before.Length);
                uint length = (uint)random.Next(1, before.Length - (int)offset + 1);
                DmaDirection direction = (DmaDirection)random.Next(1, 4);

                Assert.True(adapter.TryGetScatterGatherList(chain, offset, length, direction,
                    out ScatterGatherLease list));
                ulong[] logical = [.. BytesOf(list)];
                (ulong Physical, bool Copied)[] source = [.. Sources(chain, offset, length, device, trusts)];
                Assert.Equal(source.Length, logical.Length);
                Dictionary<ulong, HashSet<ulong>> bounced = [];
                for (int i = 0; i < source.Length; i++)
                {
                    Assert.Equal(source[i].Copied, source[i].Physical != logical[i]);
                    Assert.Equal(source[i].Physical & 0xFFF, logical[i] & 0xFFF);
                    Assert.True(logical[i] <= device.LastAddress.Value);
                    if (source[i].Copied) { Used(bounced, logical[i]).Add(logical[i]); }
                }
                foreach ((ulong page, HashSet<ulong> used) in bounced)
                {
                    byte[] bytes = Memory(platform, page, 4096);
                    for (int i = 0; i < 4096; i++) { Assert.Equal(used.Contains(page + (ulong)i), bytes[i] != 0); }
                }
                Assert.Equal(ElementTests.Oracle(logical, device), [.. list.Elements()]);

                byte[] expected = (byte[])before.Clone();
                int part = random.Next((int)length + 1);
                for (int i = 0; i < source.Length; i++)
                {
                    Assert.Equal(before[(int)offset + i], Memory(platform, logical[i], 1)[0]);
                    if (i >= part || direction == DmaDirection.ToDevice) { continue; }
                    byte written = (byte)random.Next(1, 256);
                    Assert.True(platform.DmaWrite(Device, new(logical[i]), [written]));
                    expected[(int)offset + i] = written;
                }
                byte[] held = new byte[before.Length];
                chain.Peek(0, held);
                for (int i = 0; i < source.Length; i++)
                {
                    if (source[i].Copied) { Assert.Equal(before[(int)offset + i], held[(int)offset + i]); }
                }
                adapter.PutScatterGatherList(list);
                byte[] after = new byte[before.Length];
                chain.CopyTo(0, after);
                Assert.Equal(expected, after);
                int ways = direction == DmaDirection.Bidirectional ? 2 : 1;
                Assert.Equal(source.Count(static s => s.Copied) * ways, system.Statistics.BouncedBytes - counted);
                    counted = system.Statistics.BouncedBytes;
                    before = after;
                Assert.Equal(system.BounceStatistics.Pages, system.BounceStatistics.FreePages);
            }
            all.ForEach(static m => m.Dispose());
        }
    }

    private static HashSet<ulong> Used(Dictionary<ulong, HashSet<ulong>> pages, ulong address)
    {
        ulong page = address & ~0xFFFUL;
        if (!pages.TryGetValue(page, out HashSet<ulong>? used)) { pages.Add(page, used = []); }
        return used;
    }

    private static byte[] Memory(TestPlatform platform, ulong address, int length)
    {
        byte[] bytes = new byte[length];
        Assert.True(platform.Memory.TryRead(new(address), bytes));
        return bytes;
    }

    private static IEnumerable<ulong> BytesOf(ScatterGatherLease list) =>
        list.Elements().SelectMany(
            static e => Enumerable.Range(0, (int)e.Length).Select(i => e.Address.Value + (ulong)i));

    // A byte is copied when its page is out of reach, or when the transfer does not fill its page and the device may
    // not see the rest.
    private static IEnumerable<(ulong Physical, bool Copied)> Sources(
        Mdl chain, uint offset, uint length, DeviceDescription device, bool trusts)
    {
        uint at = 0;
        for (Mdl? part = chain; part is not null; at += part.ByteCount, part = part.Next)
        {
            ulong[] bytes = [.. ElementTests.BytesOf(part).Take((int)part.ByteCount)
                .Where((_, i) => at + i >= offset && at + i < offset + length)];
            foreach (ulong[] page in bytes.Select(static (b, i) => (Byte: b, Index: i))
                .GroupBy(b => b.Byte >> 12).Select(static g => g.Select(static b => b.Byte).ToArray()))
            {
                bool copied = page[^1] > device.LastAddress.Value || (!trusts && page.Length != 4096);
                foreach (ulong physical in page) { yield return (physical, copied); }
            }
        }
    }

    // Seen failing: data copied back after a transfer to the device; the copy at map counted for data from it.
    [Theory]
    [InlineData("none")]
    [InlineData("bounce")]
    [InlineData("strict")]
    [InlineData("deferred")]
    [InlineData("shadow")]
    public void T23_OfANarrowDeviceAndHighMemory(string backend)
    {
        const uint Length = 300_000;
        using DmaSystem system = _platform.Start(
            BackendTests.PolicyOf(backend), backend == "bounce" ? Options(pages: 128) : new());
        using DmaAdapter adapter = system.CreateAdapter(Device, new() { AddressBits = 32 }, "nvme");
        using Mdl mdl = Buffer(FourGiB, 74, Length, 100);
        if (backend == "none")
        {
            Assert.Equal(DmaFailure.Unreachable, Assert.Throws<DmaException>(() =>
                adapter.TryGetScatterGatherList(mdl, 0, Length, DmaDirection.FromDevice, out _)).Failure);
            return;
        }
        byte[] bytes = new byte[Length];
        new Random(1).NextBytes(bytes);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, Length, DmaDirection.FromDevice,
            out ScatterGatherLease list));
        int done = 0;
        foreach (ScatterGatherElement element in list)
        {
            Assert.True(element.Address.Value + element.Length <= FourGiB);
            Assert.True(_platform.DmaWrite(Device, element.Address, bytes[done..(done + (int)element.Length)]));
            done += (int)element.Length;
        }
        bool copies = backend is "bounce" or "shadow";
        Assert.Equal(0, system.Statistics.BouncedBytes);
        list.Dispose();
        byte[] seen = new byte[Length];
        mdl.CopyTo(0, seen);
        Assert.Equal(bytes, seen);
        Assert.Equal(copies ? Length : 0, system.Statistics.BouncedBytes);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, Length, DmaDirection.ToDevice, out list));
        Assert.Equal(copies ? 2 * Length : 0, system.Statistics.BouncedBytes);
        list.Dispose();
        Assert.Equal(copies ? 2 * Length : 0, system.Statistics.BouncedBytes);
    }

    [Fact]
    public void OfAnUntrustedDevicesTransferOnlyHeadAndTailAreCopied()
    {
        using DmaSystem system = _platform.Start(null, Options(trusts: false));
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        using Mdl mdl = Buffer(TestPlatform.Low, 4, 3 * 4096, 1000);
        mdl.CopyFrom(0, Enumerable.Repeat((byte)0xAA, 3 * 4096).ToArray());
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 3 * 4096, DmaDirection.ToDevice,
            out ScatterGatherLease list));
        Assert.Equal(3, list.Count);
        Assert.Equal(new ScatterGatherElement(new(TestPlatform.Low + 4096), 8192), list[1]);
        Assert.Equal(((4096u - 1000u), 1000u), (list[0].Length, list[2].Length));
        byte[] head = Memory(_platform, list[0].Address.AlignDown(12).Value, 4096);
        byte[] tail = Memory(_platform, list[2].Address.Value, 4096);
        Assert.True(head.AsSpan(0, 1000).IndexOfAnyExcept((byte)0) < 0);
        Assert.True(tail.AsSpan(1000).IndexOfAnyExcept((byte)0) < 0);
        list.Dispose();
        Assert.Equal(4096, system.Statistics.BouncedBytes);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 3096, 8192, DmaDirection.ToDevice, out list));
        Assert.Equal(new ScatterGatherElement(new(TestPlatform.Low + 4096), 8192), list[0]);
        list.Dispose();
        Assert.Equal(4096, system.Statistics.BouncedBytes);
    }

    // A device of one element gets a run that another transfer has used, and sees zeros around its own.
    // Seen failing: the run's last page not cleared behind the data.
    [Fact]
    public void ARunIsZeroAroundTheTransfer()
    {
        using DmaSystem system = _platform.Start(null, Options(pages: 4, areas: 1));
        using DmaAdapter adapter = system.CreateAdapter(
            Device, new() { AddressBits = 32, ScatterGather = false }, "old");
        using Mdl mdl = Buffer(FourGiB, 4, 4 * 4096);
        mdl.CopyFrom(0, Enumerable.Repeat((byte)0xAA, 4 * 4096).ToArray());
        foreach ((uint offset, uint length) in new[] { (0u, 4u * 4096), (700u, 3u * 4096), (4090u, 10u) })
        {
            Assert.True(adapter.TryGetScatterGatherList(mdl, offset, length, DmaDirection.ToDevice,
                out ScatterGatherLease list));
            Assert.Equal(length, Assert.Single(list.Elements()).Length);
            ulong first = list[0].Address.AlignDown(12).Value, end = list[0].Address.Value + length;
            byte[] pages = Memory(_platform, first, (int)(((end + 4095) & ~4095UL) - first));
            for (int i = 0; i < pages.Length; i++)
            {
                bool mine = first + (ulong)i >= list[0].Address.Value && first + (ulong)i < end;
                Assert.Equal(mine ? 0xAA : 0, pages[i]);
            }
            list.Dispose();
        }
    }

    // Seen failing: kinds not looked at.
    [Theory]
    [InlineData(FrameKind.Kernel)]
    [InlineData(FrameKind.UnitTable)]
    [InlineData(FrameKind.Free)]
    [InlineData(FrameKind.Quarantined)]
    public void OnlyBufferFramesAreEverReadOrWritten(FrameKind kind)
    {
        using DmaSystem system = _platform.Start(null, Options());
        using DmaAdapter adapter = system.CreateAdapter(Device, new() { AddressBits = 32 }, "nvme");
        using Mdl mdl = Buffer(FourGiB, 2, 8192);
        _platform.TestFrames.Mark(mdl.Pages[1], kind);
        DmaException refused = Assert.Throws<DmaException>(
            () => adapter.TryGetScatterGatherList(mdl, 0, 8192, DmaDirection.ToDevice, out _));
        Assert.Equal(DmaFailure.NotABuffer, refused.Failure);
        Assert.Equal(64, system.BounceStatistics.FreePages);
    }

    // The device may still write the bounce pages: nobody gets them before the leak is released.
    // Seen failing: a leak's pages given back to the pool; "could ever" that looked only at the buffer.
    [Fact]
    public void BouncePagesOfALeakAreNotHandedOutUntilItIsReleased()
    {
        int free = _platform.TestFrames.Count(FrameKind.Free);
        using (DmaSystem system = _platform.Start(null, Options(pages: 8, areas: 1)))
        {
            using Mdl mdl = Mdl.Allocate(_platform, 3 * 4096);
            using Mdl high = Buffer(FourGiB, 8, 8 * 4096);
            free -= 8;
            DmaAdapter careless = system.CreateAdapter(Device, new() { AddressBits = 32 }, "careless");
            Assert.True(careless.TryGetScatterGatherList(high, 0, 3 * 4096, DmaDirection.FromDevice,
                out ScatterGatherLease lost));
            HashSet<ulong> pages = [.. BytesOf(lost).Select(static b => b >> 12)];
            careless.Dispose();
            Assert.Equal(3, system.BounceStatistics.QuarantinedPages);
            foreach (PhysicalAddress page in high.Pages) { _platform.TestFrames.Mark(page, FrameKind.Buffer); }

            using DmaAdapter other = system.CreateAdapter(
                PciAddress.From(0, 5, 0), new() { AddressBits = 32 }, "other");
            Assert.True(other.TryGetScatterGatherList(high, 0, 5 * 4096, DmaDirection.ToDevice,
                out ScatterGatherLease list));
            Assert.DoesNotContain(BytesOf(list), b => pages.Contains(b >> 12));
            list.Dispose();
            // Six pages will never be free together again as long as the leak lasts.
            Assert.Equal(DmaFailure.OutOfResources, Assert.Throws<DmaException>(
                () => other.TryGetScatterGatherList(high, 0, 6 * 4096, DmaDirection.ToDevice, out _)).Failure);
            foreach (PhysicalAddress page in high.Pages[..3])
            {
                _platform.TestFrames.Mark(page, FrameKind.Quarantined);
            }
            Assert.Single(system.Leaks).Release();
            foreach (PhysicalAddress page in high.Pages) { _platform.TestFrames.Mark(page, FrameKind.Buffer); }
            Assert.Equal(0, system.BounceStatistics.QuarantinedPages);
            Assert.True(other.TryGetScatterGatherList(high, 0, 8 * 4096, DmaDirection.ToDevice, out list));
            list.Dispose();
        }
        Assert.Equal(free, _platform.TestFrames.Count(FrameKind.Free));
    }

    [Fact]
    public void FramesOfALeakLeaveThePoolInQuarantineWhenTheSystemEnds()
    {
        DmaSystem system = _platform.Start(null, Options(pages: 8, areas: 1));
        DmaAdapter careless = system.CreateAdapter(Device, new() { AddressBits = 32 }, "careless");
        using Mdl high = Buffer(FourGiB, 2, 8192);
        Assert.True(careless.TryGetScatterGatherList(high, 0, 8192, DmaDirection.FromDevice,
            out ScatterGatherLease lost));
        PhysicalAddress page = new(lost[0].Address.Value);
        system.Dispose();
        Assert.Equal(FrameKind.Quarantined, _platform.Frames.KindOf(page));
        system.Leaks[0].Release();
        Assert.Equal(FrameKind.Free, _platform.Frames.KindOf(page));
    }

    [Fact]
    public void WithoutAPoolADeviceIsTreatedAsBeforeAndWhyIsSaid()
    {
        DeviceDescription narrow = new() { AddressBits = 32 }, wide = new();
        using (DmaSystem none = _platform.Start(null))
        {
            Assert.Equal(
                (false,
                    "no unit and no bounce pool; the device drives 32 address bits and memory ends at 0x1007FFFFF"),
                none.ChooseWithoutUnit(narrow, trusted: true));
        }
        DmaSystem pooled = _platform.Start(null, Options());
        Assert.Equal((true, "no unit; the device drives 32 address bits and memory ends at 0x1007FFFFF"),
            pooled.ChooseWithoutUnit(narrow, trusted: true));
        Assert.Equal((false, "no unit; the device reaches all memory"), pooled.ChooseWithoutUnit(wide, trusted: true));
        pooled.CreateAdapter(Device, wide, "wide").Dispose();
        Assert.Equal(default, pooled.BounceStatistics);
        pooled.Dispose();
        using DmaSystem wary = _platform.Start(null, Options(trusts: false));
        Assert.Equal((true, "no unit; the device is not trusted with the rest of a page"),
            wary.ChooseWithoutUnit(wide, trusted: false));
    }

    [Theory]
    [InlineData(0, 1, 0)]
    [InlineData(2, 1, 0)]
    [InlineData(1, 1, -1)]
    public void ImpossiblePoolsAreRefused(int pages, int most, int areas) =>
        Assert.Throws<ArgumentOutOfRangeException>(() => _platform.Start(
            null, new() { Bounce = new() { Pages = pages, MaximumPages = most, Areas = areas } }));
}
