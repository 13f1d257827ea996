using Sluice.Iommu.Vtd;
using Sluice.Remapping;

#pragma warning disable CA2012 // each task of the pool is waited for exactly once

namespace Sluice.Dma.Tests;

/// <summary>Who waits when a unit dies is answered, and who comes later hears it at once: every kind of request, every
/// back-end, whenever the unit dies.</summary>
public sealed class DyingWaiterTests
{
    private const int Registers = 8;
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Other = PciAddress.From(0, 5, 0);
    private static readonly string[] Backends = ["strict", "deferred", "shadow", "isolated", "copied", "joined"];
    private static readonly string[] Kinds =
        ["list", "list by callback", "list by request", "channel", "channel by callback", "reservation"];

    public static TheoryData<string, string, string> All()
    {
        TheoryData<string, string, string> all = [];
        foreach (string backend in Backends)
        {
            foreach (string kind in Kinds)
            {
                foreach (string when in (string[])["before", "queued", "1", "2", "3", "4"])
                {
                    all.Add(backend, kind, when);
                }
            }
        }
        return all;
    }

    // A number: it stops answering before its n-th command since the driver gave back what the request waits for.
    // Seen failing: no domain that tells of its death: what was queued stayed so until somebody put a list, channels
    // for good; a transfer in flight that is never put kept its reservation's queue.
    [Theory]
    [MemberData(nameof(All))]
    public void WhoWaitsIsAnswered(string backend, string kind, string when)
    {
        using Lab lab = new(backend);
        Action give = lab.Hold(kind);
        if (when == "before") { lab.Kill(); }
        List<Task<DmaFailure>> asked = [.. Enumerable.Range(0, 3).Select(_ => lab.Ask(kind))];
        Assert.Equal(when == "before" ? 3 : 0, asked.Count(static t => t.IsCompleted));
        if (when == "queued") { lab.Kill(); }
        if (when.Length == 1)
        {
            int left = when[0] - '0';
            lab.Platform.BeforeUnitWrite = () => lab.Platform.UnitIsDeaf |= --left <= 0;
            give();
            lab.Platform.BeforeUnitWrite = null;
            lab.Kill();
        }
        lab.FireTimers(asked);
        DmaFailure[] answers = [.. asked.Select(Answer)];
        Assert.All(answers, answer => Assert.True(
            answer == DmaFailure.Dead || (when.Length == 1 && answer == DmaFailure.None), $"{answer}"));
        Eventually.Is(() => lab.Adapter.DeviceBlocked.IsCancellationRequested);
        lab.CheckThatNobodyWaitsAnyMore();
        if (when.Length > 1) { give(); }
        lab.CheckThatNobodyWaitsAnyMore();
    }

    // Seen failing: a pool whose slots were all out said false for ever, and one with a free slot gave lists of a
    // device that was blocked.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AShadowPoolSaysDeadWhateverItHas(bool free)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Shadow,
            new() { Shadow = new() { LargestSlotLog2 = 1, MaximumPages = 2, ChunkPages = 1 } });
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "disk");
        DmaAdapter killer = system.CreateAdapter(Other, new(), "killer");
        using Mdl mdl = Mdl.Allocate(platform, 100), whole = Mdl.Allocate(platform, 64 << 10);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out ScatterGatherLease one));
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out _));
        if (free) { one.Dispose(); }
        else
        {
            Assert.False(adapter.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out _));
        }
        Assert.True(killer.TryGetScatterGatherList(whole, 0, 64 << 10, DmaDirection.ToDevice,
            out ScatterGatherLease last));
        platform.UnitIsDeaf = true;
        last.Dispose();
        Assert.Equal(DmaFailure.Dead, Assert.Throws<DmaException>(
            () => adapter.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out _)).Failure);
    }

    // Seen failing: a request that waited for more pages than the pool has left when those of a leak are taken off: it
    // waited for good, and everybody behind it.
    [Fact]
    public async Task WhoWaitsForPagesThatALeakTookIsAnswered()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(null,
            new() { Bounce = new() { Pages = 8, MaximumPages = 8, Areas = 1, Always = true } });
        DmaAdapter leaks = system.CreateAdapter(Other, new(), "leaks");
        using DmaAdapter waits = system.CreateAdapter(Device, new(), "waits");
        using DmaAdapter behind = system.CreateAdapter(PciAddress.From(0, 6, 0), new(), "behind");
        using Mdl mdl = Mdl.Allocate(platform, 8 * 4096), lost = Mdl.Allocate(platform, 4 * 4096);
        Assert.True(leaks.TryGetScatterGatherList(lost, 0, 4 * 4096, DmaDirection.ToDevice, out _));
        Task<ScatterGatherLease> large =
            waits.GetScatterGatherListAsync(mdl, 0, 8 * 4096, DmaDirection.ToDevice).AsTask();
        Task<ScatterGatherLease> small =
            behind.GetScatterGatherListAsync(mdl, 0, 4 * 4096, DmaDirection.ToDevice).AsTask();
        Assert.False(large.IsCompleted || small.IsCompleted);
        leaks.Dispose();
        TimeSpan bound = TimeSpan.FromSeconds(10);
        DmaException never = await Assert.ThrowsAsync<DmaException>(() => large.WaitAsync(bound));
        Assert.Equal(DmaFailure.OutOfResources, never.Failure);
        behind.PutScatterGatherList(await small.WaitAsync(bound));
        system.Leaks[0].Release();
    }

    // Seen failing: callbacks run on the timer between one adapter and the next, and one source for all devices of a
    // domain: a driver whose callback waited for another's answer waited for itself.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AHangingDeviceBlockedCallbackKeepsNobodyElseWaiting(bool oneDomain)
    {
        using TestPlatform platform = new();
        DmaSystem system = platform.Start(InvalidationPolicy.Strict, new() { MapRegistersPerAdapter = 1 });
        DmaAdapter hangs = system.CreateAdapter(Device, new(), "hangs");
        DmaAdapter waits = system.CreateAdapter(Other, new(), "waits");
        if (oneDomain) { waits.JoinDomain(hangs); }
        using Mdl mdl = Mdl.Allocate(platform, 4096), one = Mdl.Allocate(platform, 100);
        Assert.True(waits.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.ToDevice, out _));
        Task<ScatterGatherLease> request =
            waits.GetScatterGatherListAsync(mdl, 0, 4096, DmaDirection.ToDevice).AsTask();
        using ManualResetEventSlim go = new(), told = new();
        using CancellationTokenRegistration first =
            hangs.DeviceBlocked.Register(() => go.Wait(TimeSpan.FromSeconds(20)));
        using CancellationTokenRegistration second = waits.DeviceBlocked.Register(told.Set);
        Assert.True(hangs.TryGetScatterGatherList(one, 0, 100, DmaDirection.ToDevice, out ScatterGatherLease list));
        platform.UnitIsDeaf = true;
        hangs.PutScatterGatherList(list);
        Task timers = Task.Run(platform.TestClock.FireTimers, TestContext.Current.CancellationToken);
        TimeSpan bound = TimeSpan.FromSeconds(5);
        Task late = Task.Delay(bound, TestContext.Current.CancellationToken);
        bool isAnswered = await Task.WhenAny(request, late) == request;
        bool isTold = told.Wait(bound, TestContext.Current.CancellationToken);
        go.Set();
        await timers;
        Assert.True(isAnswered && isTold, $"answered {isAnswered}, told {isTold}");
        Assert.Equal(DmaFailure.Dead, (await Assert.ThrowsAsync<DmaException>(() => request)).Failure);
        system.Dispose();
    }

    private static DmaFailure Answer(Task<DmaFailure> asked) =>
        asked.IsCompleted ? asked.Result : throw new TimeoutException("still waits");

    private sealed class Lab : IDisposable
    {
        private readonly DmaSystem _system;
        private readonly DmaAdapter _other;
        private readonly Mdl _mdl;
        private readonly Mdl _aside;
        private readonly DmaReservation _reservation;
        private readonly CommonBuffer _lethal;
        private DmaChannel? _channel;

        internal Lab(string backend)
        {
            Platform = new(unit: new VtdOptions { CachingMode = true });
            _system = Platform.Start(
                BackendTests.PolicyOf(backend is "copied" or "joined" ? "strict" : backend),
                BackendTests.OptionsOf(backend) with
                {
                    MapRegistersPerAdapter = Registers, CopyThreshold = backend == "copied" ? 4096u : 0,
                    Shadow = new() { LargestSlotLog2 = 3, MaximumPages = 64 },
                });
            Adapter = _system.CreateAdapter(Device, new(), "disk");
            _other = _system.CreateAdapter(Other, new(), "other");
            if (backend == "joined") { Adapter.JoinDomain(_other); }
            _mdl = Mdl.Allocate(Platform, 2 * 4096, 10);
            _aside = Mdl.Allocate(Platform, 5 * 4096, 10);
            _reservation = Adapter.Reserve(4096, 2);
            _lethal = _other.AllocateCommonBuffer(4096);
        }

        internal TestPlatform Platform { get; }

        internal DmaAdapter Adapter { get; }

        /// <summary>Takes what the next request of this kind needs.</summary>
        internal Action Hold(string kind)
        {
            if (kind.StartsWith("channel", StringComparison.Ordinal))
            {
                Assert.True(Adapter.TryAllocateChannel(2, out _channel));
                return _channel.Dispose;
            }
            ScatterGatherLease list;
            Assert.True(kind == "reservation"
                ? _reservation.TryGetScatterGatherList(_mdl, 0, 4096, DmaDirection.ToDevice, out list)
                : Adapter.TryGetScatterGatherList(_aside, 0, 5 * 4096, DmaDirection.ToDevice, out list));
            return list.Dispose;
        }

        internal async Task<DmaFailure> Ask(string kind)
        {
            try
            {
                switch (kind)
                {
                    case "list":
                        (await Adapter.GetScatterGatherListAsync(_mdl, 0, 4096, DmaDirection.ToDevice)
                            .ConfigureAwait(false)).Dispose();
                        return DmaFailure.None;
                    case "reservation":
                        (await _reservation.GetScatterGatherListAsync(_mdl, 0, 4096, DmaDirection.ToDevice)
                            .ConfigureAwait(false)).Dispose();
                        return DmaFailure.None;
                    case "channel":
                        (await Adapter.AllocateChannelAsync(2).ConfigureAwait(false)).Dispose();
                        return DmaFailure.None;
                }
            }
            catch (DmaException e) { return e.Failure; }
            TaskCompletionSource<DmaFailure> told = new();
            if (kind == "channel by callback")
            {
                Adapter.AllocateChannel(new(Adapter), 2, (channel, failure, _) =>
                {
                    channel?.Dispose();
                    told.SetResult(failure);
                });
                return await told.Task.ConfigureAwait(false);
            }
            ScatterGatherCallback callback = (list, failure, _) =>
            {
                if (failure == DmaFailure.None) { list.Dispose(); }
                told.SetResult(failure);
            };
            if (kind == "list by callback")
            {
                Adapter.GetScatterGatherList(_mdl, 0, 4096, DmaDirection.ToDevice, callback);
            }
            else
            {
                Adapter.BuildScatterGatherList(new(Adapter, 4), _mdl, 0, 4096, DmaDirection.ToDevice, callback);
            }
            return await told.Task.ConfigureAwait(false);
        }

        /// <summary>The unit stops answering, and somebody else finds out.</summary>
        internal void Kill()
        {
            Platform.UnitIsDeaf = true;
            _lethal.Dispose();
            Assert.True(_other.Capabilities.IsBlocked && Adapter.Capabilities.IsBlocked);
        }

        // Continuations run on the pool, which other tests may keep busy for a while.
        internal void FireTimers(List<Task<DmaFailure>> asked)
        {
            Platform.TestClock.FireTimers();
            Task.WaitAll([.. asked], 10_000);
        }

        internal void CheckThatNobodyWaitsAnyMore()
        {
            Dead(() => Adapter.TryGetScatterGatherList(_mdl, 0, 4096, DmaDirection.ToDevice, out _));
            Dead(() => Adapter.TryGetScatterGatherList(_mdl, 0, 8192, DmaDirection.FromDevice, out _));
            Dead(() => Adapter.TryAllocateChannel(1, out _));
            Dead(() => Adapter.Reserve(4096, 1));
            Dead(() => _reservation.TryGetScatterGatherList(_mdl, 0, 4096, DmaDirection.ToDevice, out _));
            Dead(() => Adapter.AllocateCommonBuffer(4096));
            Dead(() => Adapter.CreateCommonBuffer(Mdl.Allocate(Platform, 4096)));
            if (_channel is { MapRegisters: > 0 } channel)
            {
                DmaFailure failure = channel.TryMap(_mdl, 0, 4096, DmaDirection.ToDevice, out _, out uint mapped);
                Assert.Equal((DmaFailure.Dead, 0u), (failure, mapped));
            }
        }

        public void Dispose()
        {
            Adapter.Dispose();
            _other.Dispose();
            _system.Dispose();
            Platform.Dispose();
        }

        private static void Dead(Action ask) =>
            Assert.Equal(DmaFailure.Dead, Assert.Throws<DmaException>(ask).Failure);

        private static void Dead(Func<object> ask) => Dead(() => { _ = ask(); });
    }
}
