using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>Behind a unit, a device that is not trusted sees its transfers and zeros.</summary>
public sealed class IsolationTests : IDisposable
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private readonly TestPlatform _platform = new(bytesPerBank: 4 << 20);

    public void Dispose() => _platform.Dispose();

    private DmaSystem Start(InvalidationPolicy policy, int largestSlotLog2 = 0) => _platform.Start(policy, new()
    {
        Bounce = new() { Pages = 32, MaximumPages = 32, Areas = 1 },
        Shadow = new() { LargestSlotLog2 = largestSlotLog2, MaximumPages = 64 },
        Trusts = static device => device != Device,
    });

    // Every byte of every page that the device reaches, for every policy: shadow with slots of a page, so that nearly
    // all transfers are longer.
    // Seen failing: the driver's own page mapped; the tail of a page left dirty; a deferred domain; shadow's long
    // transfers mapped without isolation.
    [Theory]
    [InlineData(InvalidationPolicy.Strict)]
    [InlineData(InvalidationPolicy.Deferred)]
    [InlineData(InvalidationPolicy.Shadow)]
    public void NeighboursInAPageAreNeverSeenNorChanged(InvalidationPolicy policy)
    {
        using DmaSystem system = Start(policy);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        Assert.Equal(uint.MaxValue, adapter.Capabilities.SubPageIsolation);
        Random random = new(1);
        for (int round = 0; round < 60; round++)
        {
            List<Mdl> all = [];
            Mdl chain = ElementTests.RandomChain(_platform, random, all);
            byte[] bytes = new byte[chain.ChainByteCount];
            random.NextBytes(bytes);
            for (int i = 0; i < bytes.Length; i++) { bytes[i] |= 1; }
            chain.CopyFrom(0, bytes);
            uint offset = (uint)random.Next(bytes.Length);
            uint length = (uint)random.Next(1, bytes.Length - (int)offset + 1);
            Assert.True(adapter.TryGetScatterGatherList(chain, offset, length, DmaDirection.Bidirectional,
                out ScatterGatherLease list));
            Dictionary<ulong, byte> mine = [];
            uint at = offset;
            foreach (ScatterGatherElement element in list)
            {
                for (uint i = 0; i < element.Length; i++) { mine.Add(element.Address.Value + i, bytes[at++]); }
            }
            foreach (ulong page in mine.Keys.Select(static a => a >> 12).Distinct())
            {
                byte[] seen = new byte[4096];
                Assert.True(_platform.DmaRead(Device, new(page << 12), seen));
                for (uint i = 0; i < 4096; i++)
                {
                    Assert.Equal(mine.GetValueOrDefault((page << 12) + i), seen[i]);
                }
                // All of the page is overwritten; only what is the transfer's arrives.
                Assert.True(_platform.DmaWrite(Device, new(page << 12), Enumerable.Repeat((byte)0x55, 4096).ToArray()));
            }
            LogicalAddress first = list[0].Address;
            list.Dispose();
            if (policy != InvalidationPolicy.Shadow) { Assert.False(_platform.DmaWrite(Device, first, [1])); }
            byte[] expected = (byte[])bytes.Clone();
            expected.AsSpan((int)offset, (int)length).Fill(0x55);
            byte[] after = new byte[bytes.Length];
            chain.CopyTo(0, after);
            Assert.Equal(expected, after);
            all.ForEach(static m => m.Dispose());
        }
        Assert.Equal(32, system.BounceStatistics.FreePages);
    }

    [Fact]
    public void OnlyHeadAndTailAreCopiedAndWholePagesNever()
    {
        using DmaSystem system = Start(InvalidationPolicy.Strict);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        using Mdl mdl = Mdl.Allocate(_platform, 10 * 4096, 1000);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 10 * 4096, DmaDirection.FromDevice,
            out ScatterGatherLease list));
        Assert.Equal(1, list.Count);
        list.Dispose();
        Assert.Equal(4096, system.Statistics.BouncedBytes);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 3096, 8 * 4096, DmaDirection.FromDevice, out list));
        list.Dispose();
        Assert.Equal(4096, system.Statistics.BouncedBytes);
        using DmaAdapter trusted = system.CreateAdapter(PciAddress.From(0, 5, 0), new(), "inside");
        Assert.True(trusted.TryGetScatterGatherList(mdl, 0, 10 * 4096, DmaDirection.FromDevice, out list));
        list.Dispose();
        Assert.Equal(0, trusted.Statistics.BouncedBytes);
        Assert.Equal(0u, trusted.Capabilities.SubPageIsolation);
    }

    [Fact]
    public void AReservedTransferIsIsolatedAndNeedsNothingMore()
    {
        using DmaSystem system = Start(InvalidationPolicy.Strict);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        using Mdl mdl = Mdl.Allocate(_platform, 3 * 4096, 10);
        mdl.CopyFrom(0, Enumerable.Repeat((byte)7, 3 * 4096).ToArray());
        using (DmaReservation reservation = adapter.Reserve(3 * 4096))
        {
            Assert.Equal(28, system.BounceStatistics.FreePages);
            long before = 0;
            for (int i = 0; i < 2000; i++)
            {
                if (i == 1000) { before = HeapMeter.Now; }
                Assert.True(reservation.TryGetScatterGatherList(mdl, 5, 9000, DmaDirection.Bidirectional,
                    out ScatterGatherLease list));
                list.Dispose();
            }
            HeapMeter.AssertNone(before);
            Assert.True(reservation.TryGetScatterGatherList(mdl, 5, 9000, DmaDirection.ToDevice,
                out ScatterGatherLease last));
            byte[] page = new byte[4096];
            Assert.True(_platform.DmaRead(Device, last[0].Address.AlignDown(12), page));
            Assert.Equal([.. new byte[15], .. Enumerable.Repeat((byte)7, 4081)], page);
            last.Dispose();
        }
        Assert.Equal(32, system.BounceStatistics.FreePages);
    }

    // Pages that are copied are not mapped, so the domain does not look at them. Seen failing: nobody did.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void OnlyBufferFramesAreReadWrittenOrMapped(int kernel)
    {
        using DmaSystem system = Start(InvalidationPolicy.Strict);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        PhysicalAddress[] pages = [new(TestPlatform.Low), new(TestPlatform.Low + 4096), new(TestPlatform.Low + 8192)];
        for (int i = 0; i < pages.Length; i++)
        {
            _platform.TestFrames.Mark(pages[i], i == kernel ? FrameKind.Kernel : FrameKind.Buffer);
        }
        using Mdl mdl = Mdl.Borrow(_platform, pages, 2 * 4096, 2000);
        DmaException refused = Assert.Throws<DmaException>(
            () => adapter.TryGetScatterGatherList(mdl, 0, 2 * 4096, DmaDirection.Bidirectional, out _));
        Assert.Equal(DmaFailure.NotABuffer, refused.Failure);
        Assert.Contains($"{pages[kernel]}", refused.Message, StringComparison.Ordinal);
        Assert.Equal(32, system.BounceStatistics.FreePages);
    }

    // Seen failing: the pages given back to the pool.
    [Fact]
    public void WhenTheUnitDiesPagesThatStandInAreNotUsedAgain()
    {
        using DmaSystem system = Start(InvalidationPolicy.Strict);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        using Mdl mdl = Mdl.Allocate(_platform, 4096, 100);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice,
            out ScatterGatherLease list));
        _platform.UnitIsDeaf = true;
        list.Dispose();
        Assert.Equal((2, 30), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
    }

    // Seen failing: a reservation that still held the pages gave them back at its end, and the leak's release gave them
    // a second time; pages that came back were no buffers, so that no device could be given them.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void PagesOfAReservedTransferThatTheUnitDidNotEndComeBackOnceAndAsBuffers(bool released)
    {
        using DmaSystem system = Start(InvalidationPolicy.Strict);
        DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        Mdl mdl = Mdl.Allocate(_platform, 4096, 100);
        DmaReservation reservation = adapter.Reserve(4096);
        int buffers = _platform.TestFrames.Count(FrameKind.Buffer);
        Assert.True(reservation.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice,
            out ScatterGatherLease list));
        _platform.UnitIsDeaf = true;
        list.Dispose();
        Assert.Equal((2, 30), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
        if (released)
        {
            reservation.Dispose();
            Assert.Equal((2, 30), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
            Assert.Single(system.Leaks).Release();
            Assert.Equal((0, 32), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
            Assert.Equal(buffers, _platform.TestFrames.Count(FrameKind.Buffer));
        }
        adapter.Dispose();
        reservation.Dispose();
        Assert.Equal(
            released ? (0, 32) : (2, 30),
            (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
        mdl.Dispose();
    }

    // Seen failing: pages that came back only with the last leak of an adapter that was closed.
    [Fact]
    public void PagesOfALeakThatIsOverComeBackWhileTheAdapterIsOpen()
    {
        using DmaSystem system = Start(InvalidationPolicy.Strict);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        using Mdl mdl = Mdl.Allocate(_platform, 4096, 100);
        ScatterGatherLease[] lists = [.. Enumerable.Range(0, 2).Select(_ =>
        {
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.ToDevice,
                out ScatterGatherLease list));
            return list;
        })];
        _platform.UnitIsDeaf = true;
        foreach (ScatterGatherLease list in lists) { list.Dispose(); }
        Assert.Equal((4, 28), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
        system.Leaks[0].Release();
        Assert.Equal((2, 30), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
        system.Leaks[1].Release();
        Assert.Equal((0, 32), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
    }

    // A unit that caches absence must be told of what is new. Seen failing: pages given back that the device may reach,
    // because the unit did not confirm; pages kept for a device that was blocked before.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void PagesOfAMapThatTheUnitDidNotConfirmAreNotUsedAgain(bool reserved)
    {
        using TestPlatform platform = new(unit: new() { CachingMode = true });
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict, new()
        {
            Bounce = new() { Pages = 32, MaximumPages = 32, Areas = 1 },
            Trusts = static _ => false,
        });
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "outside");
        using Mdl mdl = Mdl.Allocate(platform, 4096, 100), other = Mdl.Allocate(platform, 4096, 100);
        DmaReservation reservation = adapter.Reserve(4096);
        platform.UnitIsDeaf = true;
        foreach (Mdl buffer in new[] { mdl, other })
        {
            Assert.Equal(DmaFailure.Dead, Assert.Throws<DmaException>(() => reserved
                ? reservation.TryGetScatterGatherList(buffer, 0, 4096, DmaDirection.FromDevice, out _)
                : adapter.TryGetScatterGatherList(buffer, 0, 4096, DmaDirection.FromDevice, out _)).Failure);
        }
        reservation.Dispose();
        Assert.Equal((2, 30), (system.BounceStatistics.QuarantinedPages, system.BounceStatistics.FreePages));
    }

    // What one maps all of a domain reach, whole pages and all.
    [Fact]
    public void ADeviceThatIsNotTrustedSharesADomainOnlyWithItsLike()
    {
        using DmaSystem system = Start(InvalidationPolicy.Deferred);
        using DmaAdapter outside = system.CreateAdapter(Device, new(), "outside");
        using DmaAdapter inside = system.CreateAdapter(PciAddress.From(0, 5, 0), new(), "inside");
        Assert.Equal((InvalidationPolicy.Strict, InvalidationPolicy.Deferred),
            (outside.Capabilities.Policy, inside.Capabilities.Policy));
        foreach (Action move in new Action[] { () => outside.JoinDomain(inside), () => inside.JoinDomain(outside) })
        {
            string refusal = Assert.Throws<InvalidOperationException>(move).Message;
            Assert.Contains("trusted with the rest of a page", refusal, StringComparison.Ordinal);
        }
        Assert.NotSame(outside.Domain, inside.Domain);
    }
}
