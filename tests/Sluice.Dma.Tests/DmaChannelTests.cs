using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>
/// The channel lease: one at a time, in order, with all that a piece needs; and requests made beforehand.
/// </summary>
public sealed class DmaChannelTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);

    public static TheoryData<string> All => ["identity", "bounce", "strict", "deferred", "shadow"];

    private static DmaSystem Start(
        TestPlatform platform, string backend, int registers = int.MaxValue, int pool = 64) =>
        backend switch
        {
            "strict" => platform.Start(InvalidationPolicy.Strict, new() { MapRegistersPerAdapter = registers }),
            "deferred" => platform.Start(InvalidationPolicy.Deferred, new() { MapRegistersPerAdapter = registers }),
            "shadow" => platform.Start(InvalidationPolicy.Shadow, new() { MapRegistersPerAdapter = registers }),
            _ => platform.Start(null, new()
            {
                MapRegistersPerAdapter = registers,
                Bounce = backend == "bounce"
                    ? new() { Always = true, Pages = pool, MaximumPages = pool, Areas = 1 } : null,
            }),
        };

    [Theory]
    [MemberData(nameof(All))]
    public async Task ChannelsAreGrantedOneByOneInOrder(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        DmaChannel first = await adapter.AllocateChannelAsync(2);
        Task<DmaChannel>[] others = [.. Enumerable.Range(0, 4).Select(_ => adapter.AllocateChannelAsync(2).AsTask())];
        Assert.False(adapter.TryAllocateChannel(1, out _));
        Assert.All(others, static t => Assert.False(t.IsCompleted));
        // Released, its registers stay its own; the next has its turn.
        first.Release();
        for (int i = 0; i < others.Length; i++)
        {
            DmaChannel channel = await others[i];
            Assert.All(others[(i + 1)..], static t => Assert.False(t.IsCompleted));
            channel.Dispose();
            channel.Dispose();
        }
        first.Dispose();
        Assert.True(adapter.TryAllocateChannel(1, out DmaChannel? last));
        last.Dispose();
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task ACancelledRequestIsNeverGrantedAndHoldsUpNobody(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        DmaChannel held = await adapter.AllocateChannelAsync(1);
        using CancellationTokenSource stop = new();
        Task<DmaChannel> never = adapter.AllocateChannelAsync(1, stop.Token).AsTask();
        Task<DmaChannel> next = adapter.AllocateChannelAsync(1).AsTask();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => never);
        Assert.False(next.IsCompleted);
        held.Dispose();
        (await next).Dispose();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(
            async () => await adapter.AllocateChannelAsync(1, stop.Token));
    }

    // Seen failing, in one of two runs: a callback although the request was withdrawn while it was being granted.
    [Theory]
    [MemberData(nameof(All))]
    public void InARaceAChannelIsGrantedOrWithdrawnNeverBothAndNeverNeither(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        DmaChannelRequest request = new(adapter);
        DmaChannel? held = null;
        int calls = 0;
        (int granted, int withdrawn) = Race.Run(
            () =>
            {
                calls = 0;
                Assert.True(adapter.TryAllocateChannel(1, out held));
                // Many registers take a while to be set aside: that is when a request is withdrawn from under a grant.
                adapter.AllocateChannel(request, backend == "bounce" ? 48 : 250, (channel, _, _) =>
                {
                    Interlocked.Increment(ref calls);
                    channel!.Dispose();
                });
            },
            () => held!.Dispose(),
            request.TryCancel,
            cancelled => Assert.Equal(cancelled ? 0 : 1, calls));
        Assert.True(granted > 0 && withdrawn > 0, $"{granted} granted and {withdrawn} withdrawn: that was no race");
    }

    [Theory]
    [MemberData(nameof(All))]
    public void InARaceAListIsMappedOrWithdrawnNeverBothAndNeverNeither(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, backend, registers: 4);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        using Mdl mdl = Mdl.Allocate(platform, 4 * 4096);
        ScatterGatherRequest request = new(adapter, 4);
        ScatterGatherLease held = default;
        int calls = 0;
        (int mapped, int withdrawn) = Race.Run(
            () =>
            {
                calls = 0;
                Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 4 * 4096, DmaDirection.ToDevice, out held));
                adapter.BuildScatterGatherList(request, mdl, 0, 4 * 4096, DmaDirection.ToDevice, (list, _, _) =>
                {
                    Interlocked.Increment(ref calls);
                    list.Dispose();
                });
            },
            () => held.Dispose(),
            request.TryCancel,
            cancelled =>
            {
                Assert.Equal(cancelled ? 0 : 1, calls);
                Assert.Equal(0, adapter.Statistics.Outstanding);
            });
        Assert.True(mapped > 0 && withdrawn > 0, $"{mapped} mapped and {withdrawn} withdrawn: that was no race");
    }

    [Theory]
    [MemberData(nameof(All))]
    public void APieceNeedsNothingThatTheMachineCouldLack(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        using Mdl mdl = Mdl.Allocate(platform, 16 * 4096, 5);
        Assert.True(adapter.TryAllocateChannel(5, out DmaChannel? channel));
        platform.TestFrames.Limit(0);
        byte[] data = new byte[16 * 4096];
        new Random(1).NextBytes(data);
        uint done = 0;
        while (done < data.Length)
        {
            Assert.Equal(DmaFailure.None, channel.TryMap(
                mdl, done, (uint)data.Length - done, DmaDirection.FromDevice, out ScatterGatherLease list,
                out uint mapped, maximumElements: 3));
            Assert.InRange(list.Count, 1, 3);
            foreach (ScatterGatherElement element in list)
            {
                int here = (int)element.Length;
                Assert.True(platform.DmaWrite(Device, element.Address, data[(int)done..((int)done + here)]));
                done += element.Length;
            }
            Assert.Throws<InvalidOperationException>(channel.Dispose);
            channel.Flush(list);
        }
        byte[] seen = new byte[data.Length];
        mdl.CopyTo(0, seen);
        Assert.Equal(data, seen);
        platform.TestFrames.Limit(int.MaxValue);
        channel.Dispose();
        Assert.Throws<ObjectDisposedException>(() =>
            channel.TryMap(mdl, 0, 1, DmaDirection.ToDevice, out _, out _));
    }

    [Fact]
    public void AChannelShortOfAPoolIsGrantedWhenAnotherAdapterGivesBack()
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, "bounce", pool: 8);
        using DmaAdapter one = system.CreateAdapter(Device, new(), "one");
        using DmaAdapter two = system.CreateAdapter(PciAddress.From(0, 5, 0), new(), "two");
        using Mdl mdl = Mdl.Allocate(platform, 6 * 4096);
        Assert.True(one.TryGetScatterGatherList(mdl, 0, 6 * 4096, DmaDirection.ToDevice, out ScatterGatherLease held));
        DmaChannel? granted = null;
        two.AllocateChannel(new(two), 4, (channel, failure, _) =>
        {
            Assert.Equal(DmaFailure.None, failure);
            granted = channel;
        });
        Assert.Null(granted);
        one.PutScatterGatherList(held);
        Eventually.Is(() => Volatile.Read(ref granted) is not null);
        granted!.Dispose();
        Assert.Throws<DmaException>(() => two.TryAllocateChannel(9, out _));
    }

    [Fact]
    public async Task DisposingTheAdapterAnswersWhoeverWaitsForTheChannel()
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, "strict");
        DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        DmaChannel held = await adapter.AllocateChannelAsync(1);
        Task<DmaChannel> waiting = adapter.AllocateChannelAsync(1).AsTask();
        adapter.Dispose();
        Assert.Equal(DmaFailure.Disposed, (await Assert.ThrowsAsync<DmaException>(() => waiting)).Failure);
        held.Dispose();
        Assert.Throws<DmaException>(() => adapter.TryAllocateChannel(1, out _));
    }

    [Theory]
    [MemberData(nameof(All))]
    public void ARequestMadeBeforehandWaitsAndIsWithdrawnWithoutAllocating(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = Start(platform, backend, registers: 4);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "test");
        using Mdl mdl = Mdl.Allocate(platform, 4 * 4096);
        ScatterGatherRequest request = new(adapter, 4);
        ScatterGatherLease got = default;
        ScatterGatherCallback callback = (list, _, _) => got = list;
        int allocating = 0;
        for (int round = 0; round < 40; round++)
        {
            Assert.True(adapter.TryGetScatterGatherList(
                mdl, 0, 4 * 4096, DmaDirection.ToDevice, out ScatterGatherLease held));
            got = default;
            long before = HeapMeter.Now;
            adapter.BuildScatterGatherList(request, mdl, 0, 4 * 4096, DmaDirection.ToDevice, callback);
            bool cancelled = round % 2 == 0 && request.TryCancel();
            held.Dispose();
            long allocated = HeapMeter.Now - before;
            Assert.Equal(round % 2 == 0, cancelled);
            Assert.Equal(cancelled, got == default);
            if (!cancelled) { got.Dispose(); }
            Assert.False(request.TryCancel());
            if (round > 10 && allocated != 0) { allocating++; }
        }
        // The runtime may enlarge a table of its own once.
        Assert.InRange(allocating, 0, 1);
        Assert.Equal(0, adapter.Statistics.Outstanding);
    }
}
