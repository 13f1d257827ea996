using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>Adapters that share a logical address space: join, leave, and what becomes of it.</summary>
public sealed class DomainTests
{
    private static readonly PciAddress First = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Second = PciAddress.From(0, 5, 0);

    public static TheoryData<string> All => ["none", "strict", "deferred", "shadow"];

    public static TheoryData<string> Remapped => ["strict", "deferred", "shadow"];

    private static InvalidationPolicy? PolicyOf(string name) =>
        Enum.TryParse(name, ignoreCase: true, out InvalidationPolicy policy) ? policy : null;

    // Seen failing: Move that did not attach the device (the other's list was out of reach); Move that kept mapping in
    // the old domain; a shadow back-end that kept its own pool (its slots were out of reach after the move).
    [Theory]
    [MemberData(nameof(All))]
    public void WhatEitherMapsBothReachFromJoinToLeave(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(PolicyOf(backend));
        using DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        bool remapped = backend != "none";
        Assert.Equal(remapped, a.Domain != b.Domain);
        Assert.Equal(remapped, a.Domain.IsRemapped);
        DmaDomain own = b.Domain;
        for (int round = 0; round < 3; round++)
        {
            b.JoinDomain(a);
            Assert.Same(a.Domain, b.Domain);
            Assert.Equal([First, Second], a.Domain.Devices);
            Exchange(platform, a, First, Second, reaches: true);
            Exchange(platform, b, First, Second, reaches: true);
            b.LeaveDomain();
            Assert.Same(own, b.Domain);
            Exchange(platform, a, First, First, reaches: true);
            Exchange(platform, b, Second, Second, reaches: true);
            // Shadow slots of two domains may lie at the same addresses: there the other finds its own.
            if (backend is "strict" or "deferred") { Exchange(platform, a, Second, Second, reaches: false); }
        }
    }

    // Seen failing: Move without the count of lists; without that of common buffers; a
    // refused move that kept the map registers (the next list had to wait).
    [Theory]
    [MemberData(nameof(All))]
    public void AMoveIsRefusedWhileAnythingIsOutstandingAndSaysHowMuch(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(PolicyOf(backend));
        using DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        using Mdl mdl = Mdl.Allocate(platform, 8192);
        DmaDomain own = b.Domain;
        string Refused(Action move) => Assert.Throws<InvalidOperationException>(move).Message;

        Assert.True(b.TryGetScatterGatherList(mdl, 0, 8192, DmaDirection.ToDevice, out ScatterGatherLease one));
        Assert.True(b.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out ScatterGatherLease two));
        CommonBuffer buffer = b.AllocateCommonBuffer(100);
        Assert.Contains("two 0000:00:05.0 cannot change its domain: 2 lists, 1 common buffer and 0 reservations",
            Refused(() => b.JoinDomain(a)), StringComparison.Ordinal);
        one.Dispose();
        two.Dispose();
        Assert.Contains("0 lists, 1 common buffer and", Refused(() => b.JoinDomain(a)), StringComparison.Ordinal);
        buffer.Dispose();
        DmaReservation reservation = b.Reserve(4096);
        Assert.Contains("0 common buffers and 1 reservation are", Refused(() => b.JoinDomain(a)),
            StringComparison.Ordinal);
        reservation.Dispose();
        Assert.Same(own, b.Domain);
        Exchange(platform, b, Second, Second, reaches: true);

        // The other one's are no hindrance: they stay where they are.
        Assert.True(a.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out ScatterGatherLease theirs));
        b.JoinDomain(a);
        Assert.Contains("joined a domain already", Refused(() => b.JoinDomain(a)), StringComparison.Ordinal);
        Assert.True(platform.DmaRead(Second, theirs[0].Address, new byte[100]));
        theirs.Dispose();
        Assert.True(b.TryGetScatterGatherList(mdl, 0, 100, DmaDirection.ToDevice, out one));
        Assert.Contains("1 list, 0 common buffers", Refused(b.LeaveDomain), StringComparison.Ordinal);
        one.Dispose();
        b.LeaveDomain();
        Assert.Contains("joined no domain", Refused(b.LeaveDomain), StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => b.JoinDomain(b));
    }

    // Seen failing: a domain disposed with the adapter that made it (the other's device was blocked); a hold too many
    // (unit tables were left at the end).
    [Theory]
    [InlineData("strict", true)]
    [InlineData("strict", false)]
    [InlineData("deferred", true)]
    [InlineData("shadow", true)]
    [InlineData("shadow", false)]
    public void ADomainLivesAsLongAsItsLastMember(string backend, bool hostFirst)
    {
        using TestPlatform platform = new();
        using (DmaSystem system = platform.Start(PolicyOf(backend)))
        {
            int tables = 0;
            for (int round = 0; round < 4; round++)
            {
                DmaAdapter a = system.CreateAdapter(First, new(), "one");
                DmaAdapter b = system.CreateAdapter(Second, new(), "two");
                b.JoinDomain(a);
                Exchange(platform, b, First, Second, reaches: true);
                (hostFirst ? a : b).Dispose();
                Assert.Throws<ObjectDisposedException>(() => (hostFirst ? b : a).JoinDomain(hostFirst ? a : b));
                (DmaAdapter left, PciAddress device) = hostFirst ? (b, Second) : (a, First);
                Exchange(platform, left, device, device, reaches: true);
                if (hostFirst) { b.LeaveDomain(); }
                Exchange(platform, left, device, device, reaches: true);
                left.Dispose();
                if (round == 0) { tables = platform.TestFrames.Count(FrameKind.UnitTable); }
            }
            Assert.Equal(tables, platform.TestFrames.Count(FrameKind.UnitTable));
            Assert.Equal(0, platform.TestFrames.Count(FrameKind.Buffer));
        }
    }

    // Seen failing: ReleaseLeak without Forget: the pages were free while the other device still reached them.
    [Theory]
    [MemberData(nameof(Remapped))]
    public void ALeakInASharedDomainIsOutOfReachBeforeItsMemoryIsUsedAgain(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(PolicyOf(backend));
        DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        b.JoinDomain(a);
        Mdl mdl = Mdl.Allocate(platform, 4096);
        PhysicalAddress page = mdl.Pages[0];
        Assert.True(a.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease list));
        LogicalAddress at = list[0].Address;
        CommonBuffer buffer = a.AllocateCommonBuffer(4096);
        LogicalAddress common = buffer.Address;
        a.Dispose();
        mdl.Dispose();
        Assert.Equal(2, system.Leaks.Count);
        Assert.False(platform.DmaWrite(First, at, [1]));
        Assert.True(platform.DmaWrite(Second, at, [1]));
        Assert.True(platform.DmaWrite(Second, common, [1]));
        Assert.Equal(FrameKind.Quarantined, platform.Frames.KindOf(page));
        foreach (DmaLeak leak in system.Leaks) { leak.Release(); }
        Assert.Equal(FrameKind.Free, platform.Frames.KindOf(page));
        // Under shadow the slot stays within reach, and is never rented again; the driver's page never was.
        Assert.Equal(backend == "shadow", platform.DmaWrite(Second, at, [2]));
        Assert.False(platform.DmaWrite(Second, common, [2]));
        Exchange(platform, b, Second, Second, reaches: true);
    }

    // Seen failing: a leak called released of which nothing came back; a second attempt that threw.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ALeakWhoseEndNoUnitConfirmsIsNeverReleased(bool put)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        b.JoinDomain(a);
        using Mdl mdl = Mdl.Allocate(platform, 4096);
        Assert.True(a.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease list));
        if (!put) { a.Dispose(); }
        platform.UnitIsDeaf = true;
        if (put) { list.Dispose(); }
        a.Dispose();
        DmaLeak leak = Assert.Single(system.Leaks);
        leak.Release();
        leak.Release();
        Assert.False(leak.IsReleased);
        Assert.Equal(FrameKind.Quarantined, platform.Frames.KindOf(mdl.Pages[0]));
    }

    // Seen failing: Narrow that told nobody (the host went on mapping above what the newcomer drives).
    [Fact]
    public void NothingIsMappedThatOneOfThemCannotDrive()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        using DmaAdapter wide = system.CreateAdapter(First, new(), "wide");
        using DmaAdapter narrow = system.CreateAdapter(Second, new() { AddressBits = 30 }, "narrow");
        Assert.True(AddressOf(wide) >> 30 != 0);
        narrow.JoinDomain(wide);
        Assert.Equal(0UL, AddressOf(wide) >> 30);
        Assert.Equal(0UL, AddressOf(narrow) >> 30);
        using (CommonBuffer buffer = wide.AllocateCommonBuffer(4096)) { Assert.Equal(0UL, buffer.Address.Value >> 30); }
        narrow.LeaveDomain();
        Assert.True(AddressOf(wide) >> 30 != 0);

        ulong AddressOf(DmaAdapter adapter)
        {
            using Mdl mdl = Mdl.Allocate(platform, 4096);
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.ToDevice, out var list));
            ulong address = list[0].Address.Value;
            list.Dispose();
            return address;
        }
    }

    [Fact]
    public void SlotsThatADeviceCannotDriveKeepItOut()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Shadow);
        using DmaAdapter wide = system.CreateAdapter(First, new(), "wide");
        using DmaAdapter narrow = system.CreateAdapter(Second, new() { AddressBits = 30 }, "narrow");
        string line = Assert.Throws<InvalidOperationException>(() => narrow.JoinDomain(wide)).Message;
        Assert.Contains("drives 30 address bits", line, StringComparison.Ordinal);
        Exchange(platform, narrow, Second, Second, reaches: true);
        wide.JoinDomain(narrow);
        Exchange(platform, wide, First, Second, reaches: true);
    }

    // A page of the pool that stands in for a fragment is another device's right after the put. Seen failing: Refusal
    // without the question of trust.
    [Theory]
    [MemberData(nameof(Remapped))]
    public void OneDomainIsForDevicesTrustedAlike(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(PolicyOf(backend), new() { Trusts = static device => device == First });
        using DmaAdapter trusted = system.CreateAdapter(First, new(), "trusted");
        using DmaAdapter other = system.CreateAdapter(Second, new(), "other");
        string line = Assert.Throws<InvalidOperationException>(() => other.JoinDomain(trusted)).Message;
        Assert.Contains("are trusted with the rest of a page, and this one is not", line, StringComparison.Ordinal);
        line = Assert.Throws<InvalidOperationException>(() => trusted.JoinDomain(other)).Message;
        Assert.Contains("are not trusted with the rest of a page, and this one is", line, StringComparison.Ordinal);
        Exchange(platform, trusted, First, First, reaches: true);
        Exchange(platform, other, Second, Second, reaches: true);
    }

    // Seen failing: Move that left the map registers free (the list was mapped in the domain that its device was
    // leaving).
    [Fact]
    public void ARequestMadeWhileTheDeviceMovesWaitsItsTurn()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        using DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        using Mdl mdl = Mdl.Allocate(platform, 4096);
        (ScatterGatherLease? got, bool atOnce) = (null, false);
        platform.BeforeUnitWrite = () =>
        {
            platform.BeforeUnitWrite = null;
            b.GetScatterGatherList(mdl, 0, 4096, DmaDirection.ToDevice, (made, _, _) => got = made);
            atOnce = got is not null;
        };
        b.JoinDomain(a);
        Assert.False(atOnce);
        Assert.NotNull(got);
        using ScatterGatherLease list = got.Value;
        Assert.True(platform.DmaRead(Second, list[0].Address, new byte[8]));
        Assert.True(platform.DmaRead(First, list[0].Address, new byte[8]));
    }

    // A callback may wait for another driver, who may wait for the lock. Seen failing: the queue served where the move
    // ended, inside the domain lock.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WhoWaitedForAMoveIsCalledBackOutsideTheDomainLock(bool deaf)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        using DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        using Mdl mdl = Mdl.Allocate(platform, 4096);
        (int calls, int locked) = (0, 0);
        Watch(() => b.JoinDomain(a));
        if (!deaf) { Watch(b.LeaveDomain); }
        Assert.Equal((deaf ? 1 : 2, 0), (calls, locked));

        void Watch(Action move)
        {
            platform.BeforeUnitWrite = () =>
            {
                platform.BeforeUnitWrite = null;
                b.GetScatterGatherList(mdl, 0, 4096, DmaDirection.ToDevice, (list, failure, _) =>
                {
                    calls++;
                    if (system.DomainLock.IsHeldByCurrentThread) { locked++; }
                    if (failure == DmaFailure.None) { list.Dispose(); }
                });
                platform.UnitIsDeaf = deaf;
            };
            if (deaf) { Assert.Throws<RemappingException>(move); }
            else { move(); }
        }
    }

    [Fact]
    public void ListsAndMovesNeverMeet()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        using DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        var port = platform.Unit.Connect("thread");
        (int lists, int missed, bool over, Exception? thrown) = (0, 0, false, null);
        Thread driver = new(() =>
        {
            using Mdl mdl = Mdl.Allocate(platform, 4096);
            byte[] word = new byte[8];
            try
            {
                while (!Volatile.Read(ref over))
                {
                    using ScatterGatherLease list =
                        Wait(b.GetScatterGatherListAsync(mdl, 0, 4096, DmaDirection.ToDevice));
                    if (!platform.Dma(Second, list[0].Address, word, DmaAccess.Read, port)) { missed++; }
                    Volatile.Write(ref lists, lists + 1);
                }
            }
            catch (Exception e) { thrown = e; }
        });
        driver.Start();
        int moves = 0;
        long end = Environment.TickCount64 + 300;
        bool joined = false;
        while (Environment.TickCount64 < end || (moves < 20 && Environment.TickCount64 < end + 10_000))
        {
            try
            {
                if (joined) { b.LeaveDomain(); }
                else { b.JoinDomain(a); }
                (joined, moves) = (!joined, moves + 1);
                Thread.SpinWait(200);
            }
            catch (InvalidOperationException)
            {
                // A list was outstanding: the next attempt may find none.
            }
        }
        Volatile.Write(ref over, true);
        Assert.True(driver.Join(TimeSpan.FromSeconds(20)), "the driver waits for ever");
        Assert.Null(thrown);
        Assert.Equal(0, missed);
        Assert.True(lists > 20 && moves >= 20, $"{lists} lists, {moves} moves");

        static ScatterGatherLease Wait(ValueTask<ScatterGatherLease> task) => task.AsTask().GetAwaiter().GetResult();
    }

    // Seen failing: a scene with the device's own mappings only (the report knew nothing of the list).
    [Fact]
    public void AFaultInASharedDomainIsExplainedByWhoeverMapped()
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        List<DmaReport> reports = [];
        system.Reported += reports.Add;
        using DmaAdapter a = system.CreateAdapter(First, new(), "one");
        using DmaAdapter b = system.CreateAdapter(Second, new(), "two");
        b.JoinDomain(a);
        using Mdl mdl = Mdl.Allocate(platform, 4096);
        Assert.True(a.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease list));
        LogicalAddress at = list[0].Address;
        list.Dispose();
        Assert.False(platform.DmaWrite(Second, at, [1]));
        platform.RunInterrupts();
        system.DeliverReports();
        DmaReport report = Assert.Single(reports);
        Assert.Equal(DmaReportKind.AfterUnmap, report.Kind);
        Assert.Equal(("two", Second), (report.Driver, report.Fault.Device));
        Assert.Equal(("one", First), (report.Mapping!.Value.Owner, report.Mapping.Value.Device));
    }

    // Seen failing: Forget that took a domain without other devices for one that nobody reaches: the unit had not
    // confirmed that the device was detached, and the leaks' frames went back into circulation.
    [Theory]
    [InlineData("strict")]
    [InlineData("deferred")]
    public void WhatADeadUnitMayStillReachIsNeverReleased(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(PolicyOf(backend));
        DmaAdapter adapter = system.CreateAdapter(First, new(), "one");
        using Mdl mdl = Mdl.Allocate(platform, 8192);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 8192, DmaDirection.Bidirectional, out _));
        adapter.AllocateCommonBuffer(64);
        platform.UnitIsDeaf = true;
        adapter.Dispose();
        Assert.Equal(2, system.Leaks.Count);
        foreach (DmaLeak leak in system.Leaks) { leak.Release(); }
        mdl.Dispose();
        Assert.Equal(3, platform.Frames.QuarantinedFrames);
    }

    // Seen failing: an adapter that stays dead although its device is in a domain that lives.
    [Theory]
    [InlineData("strict")]
    [InlineData("deferred")]
    [InlineData("shadow")]
    public async Task WhoLeavesADeadDomainForALivingOneMapsAgain(string backend)
    {
        using TestPlatform platform = new();
        platform.AddSecondUnit(Second);
        using DmaSystem system = platform.Start(PolicyOf(backend));
        DmaAdapter dies = system.CreateAdapter(First, new(), "one");
        using DmaAdapter lives = system.CreateAdapter(Second, new(), "two");
        CommonBuffer lethal = dies.AllocateCommonBuffer(64);
        lives.JoinDomain(dies);
        CancellationToken joined = lives.DeviceBlocked;
        using Mdl mdl = Mdl.Allocate(platform, 4096);
        mdl.CopyFrom(0, [1, 2, 3, 4]);
        platform.UnitIsDeaf = true;
        lethal.Dispose();
        platform.TestClock.FireTimers();
        Eventually.Is(() => lives.Capabilities.IsBlocked && joined.IsCancellationRequested);
        Assert.Equal(DmaFailure.Dead, Assert.Throws<DmaException>(
            () => lives.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.ToDevice, out _)).Failure);

        lives.LeaveDomain();
        Assert.False(lives.Capabilities.IsBlocked || lives.DeviceBlocked.IsCancellationRequested);
        Assert.True(lives.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.ToDevice, out ScatterGatherLease list));
        Assert.True(platform.DmaRead(Second, list[0].Address, new byte[4]));
        list.Dispose();
        (await lives.GetScatterGatherListAsync(mdl, 0, 4096, DmaDirection.ToDevice)).Dispose();
        (await lives.AllocateChannelAsync(2)).Dispose();
        lives.Reserve(4096).Dispose();
        lives.AllocateCommonBuffer(64).Dispose();
        platform.TestClock.FireTimers();
        Assert.False(lives.Capabilities.IsBlocked);
        // The other stays where it is, and no way leads back.
        Assert.True(dies.Capabilities.IsBlocked);
        Assert.Contains("no longer answers",
            Assert.Throws<InvalidOperationException>(() => lives.JoinDomain(dies)).Message, StringComparison.Ordinal);
        dies.Dispose();
    }

    // Seen failing: a signal that was exchanged before anybody had told it: the driver that held it never heard.
    [Fact]
    public void WhoLeavesADeadDomainBeforeAnybodyToldIsToldAllTheSame()
    {
        using TestPlatform platform = new();
        platform.AddSecondUnit(Second);
        using DmaSystem system = platform.Start(InvalidationPolicy.Strict);
        using DmaAdapter dies = system.CreateAdapter(First, new(), "one");
        using DmaAdapter lives = system.CreateAdapter(Second, new(), "two");
        CommonBuffer lethal = dies.AllocateCommonBuffer(64);
        lives.JoinDomain(dies);
        CancellationToken joined = lives.DeviceBlocked;
        platform.UnitIsDeaf = true;
        lethal.Dispose();
        Assert.False(joined.IsCancellationRequested);
        lives.LeaveDomain();
        Eventually.Is(() => joined.IsCancellationRequested);
        platform.TestClock.FireTimers();
        Assert.False(lives.DeviceBlocked.IsCancellationRequested);
    }

    // A list and a common buffer of one adapter, used by both devices, each way; then given back.
    private static void Exchange(
        TestPlatform platform, DmaAdapter adapter, PciAddress one, PciAddress other, bool reaches)
    {
        using Mdl mdl = Mdl.Allocate(platform, 8192);
        mdl.CopyFrom(0, [1, 2, 3, 4]);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 8192, DmaDirection.Bidirectional, out var list));
        byte[] seen = new byte[4];
        LogicalAddress at = list[0].Address;
        using CommonBuffer buffer = adapter.AllocateCommonBuffer(64);
        foreach (PciAddress device in (PciAddress[])[one, other])
        {
            Assert.Equal(reaches, platform.DmaRead(device, at, seen));
            Assert.Equal(reaches, platform.DmaWrite(device, at, [5, 6, 7, 8]));
            Assert.Equal(reaches, platform.DmaWrite(device, buffer.Address, [9]));
        }
        Assert.Equal(reaches ? 9u : 0, buffer.Read32(0));
        list.Dispose();
        mdl.CopyTo(0, seen);
        Assert.Equal(reaches ? [5, 6, 7, 8] : [1, 2, 3, 4], seen);
    }

    // Seen failing: the word of one driver taken for all devices of its domain: another wrote a frame that was free,
    // through what the dead unit had cached. And a mate that ended forgotten, though no unit confirmed that it is out.
    [Theory]
    [InlineData(InvalidationPolicy.Strict, false)]
    [InlineData(InvalidationPolicy.Strict, true)]
    [InlineData(InvalidationPolicy.Deferred, false)]
    [InlineData(InvalidationPolicy.Deferred, true)]
    public void AReleasedLeakStaysOutOfReachOfTheDomainsOtherDevices(InvalidationPolicy policy, bool mateEnds)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(policy);
        PciAddress mate = PciAddress.From(0, 5, 0);
        using DmaAdapter leaks = system.CreateAdapter(PciAddress.From(0, 4, 0), new(), "leaks");
        using DmaAdapter other = system.CreateAdapter(mate, new(), "other");
        other.JoinDomain(leaks);
        Mdl mdl = Mdl.Allocate(platform, 4096);
        PhysicalAddress page = mdl.Pages[0];
        Assert.True(leaks.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease list));
        LogicalAddress where = list[0].Address;
        Assert.True(platform.DmaWrite(mate, where, [7]));
        platform.UnitIsDeaf = true;
        leaks.PutScatterGatherList(list);
        mdl.Dispose();
        if (policy == InvalidationPolicy.Deferred) { platform.TestClock.FireTimers(); }
        DmaLeak leak = Assert.Single(system.Leaks);
        leak.Release();
        if (mateEnds)
        {
            other.Dispose();
            leak.Release();
        }
        Assert.Equal((false, FrameKind.Quarantined), (leak.IsReleased, platform.Frames.KindOf(page)));
    }

    // Seen failing: a device that had left counted for ever, and a leak that nobody could release a second time.
    [Theory]
    [InlineData(InvalidationPolicy.Strict)]
    [InlineData(InvalidationPolicy.Deferred)]
    public void ALeakIsItsDriversToReleaseWhenTheOthersLeftInTime(InvalidationPolicy policy)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(policy);
        using DmaAdapter leaks = system.CreateAdapter(PciAddress.From(0, 4, 0), new(), "leaks");
        using DmaAdapter other = system.CreateAdapter(PciAddress.From(0, 5, 0), new(), "other");
        other.JoinDomain(leaks);
        Mdl mdl = Mdl.Allocate(platform, 4096);
        PhysicalAddress page = mdl.Pages[0];
        Assert.True(leaks.TryGetScatterGatherList(mdl, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease list));
        other.LeaveDomain();
        platform.UnitIsDeaf = true;
        leaks.PutScatterGatherList(list);
        mdl.Dispose();
        if (policy == InvalidationPolicy.Deferred) { platform.TestClock.FireTimers(); }
        DmaLeak leak = Assert.Single(system.Leaks);
        leak.Release();
        leak.Release();
        Assert.Equal((true, FrameKind.Free), (leak.IsReleased, platform.Frames.KindOf(page)));
    }
}
