using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Sluice.Dma;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Promises.Tests;

/// <summary>
/// The deferred policy with little memory: drivers and a session's client map, put and give back at once, devices go on
/// writing and reading wherever they ever could, and whoever gets a frame next watches it. Two seconds;
/// <c>SLUICE_STRESS_SECONDS=60</c> for longer.
/// </summary>
public sealed class DeferredStressTests(ITestOutputHelper output)
{
    private const int FramesInPlay = 160;
    private const int Told = 8;
    private const ulong Secret = 0x5EC2E75E_C2E75EC2;
    private readonly ulong[] _told = new ulong[Told];
    private readonly List<string> _breaches = [];
    private Machine _machine = null!;
    private DmaSystem _system = null!;
    private bool _over;
    private long _puts, _freed, _sessions, _clientFrees, _watched, _short, _landed, _mostHeld;

    private static double Seconds =>
        double.TryParse(Environment.GetEnvironmentVariable("SLUICE_STRESS_SECONDS"), CultureInfo.InvariantCulture,
            out double seconds) ? seconds : 2;

    // Seen failing: frames that are free when their owner gives them back, whatever is pending: hundreds of writes and
    // reads in the next owner's pages, and venom in the unit's tables. FreeHeld that frees the young with the old.
    [Fact]
    public void WhatIsReusedUnderTheDeferredPolicyIsOutOfEveryDevicesReach()
    {
        const int Seed = 20;
        using (_machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 16UL << 20, Seed = Seed }))
        {
            RogueDevice[] rogues = [.. Enumerable.Range(0, 3).Select(_ => _machine.Plug(new RogueDevice()))];
            foreach (PciFunction function in PciBus.Enumerate(_machine)) { function.EnableBusMaster(); }
            using (_system = DmaSystem.Start(
                _machine, new() { Iommu = DmaIommu.Vtd, Policy = InvalidationPolicy.Deferred }))
            {
                PhysicalAddress[] kept = KeepAllBut(FramesInPlay);
                using DmaAdapter one = _system.CreateAdapter(rogues[0].Address, new() { AddressBits = 32 }, "one");
                using DmaAdapter two = _system.CreateAdapter(rogues[1].Address, new() { AddressBits = 32 }, "two");
                Thread[] threads =
                [
                    Start(() => Drive(one, new(Seed))), Start(() => Drive(two, new(Seed + 1))),
                    Start(() => Serve(rogues[2].Address, new(Seed + 2))),
                    Start(() => Watch(FrameKind.Buffer, new(Seed + 3))),
                    Start(() => Watch(FrameKind.UnitTable, new(Seed + 4))),
                    .. rogues.Select((rogue, i) => Start(() => Attack(rogue, new(Seed + 5 + i)))),
                ];
                Stopwatch watch = Stopwatch.StartNew();
                using ManualResetEventSlim never = new();
                while (watch.Elapsed.TotalSeconds < Seconds)
                {
                    _mostHeld = Math.Max(_mostHeld, _machine.Frames.HeldFrames);
                    never.Wait(TimeSpan.FromMilliseconds(1));
                }
                Volatile.Write(ref _over, true);
                foreach (Thread thread in threads) { Assert.True(thread.Join(TimeSpan.FromSeconds(30)), "it hangs"); }
                foreach (PhysicalAddress page in kept) { Expect(page, "a page that nobody ever mapped"); }
                CheckUnitTables();
                Assert.Empty(_system.Leaks);
                Assert.Equal(0, _system.Remapping!.Statistics.DeadUnits);
                output.WriteLine(
                    $"{_puts} lists put, {_freed} buffers given back at once, {_clientFrees} by {_sessions} clients; "
                    + $"{_watched} frames watched after reuse, {_landed} DMAs landed, at most {_mostHeld} frames held, "
                    + $"{_short} times no memory, {_breaches.Count} breaches; longest exposure "
                    + $"{_system.Remapping.Statistics.DeferredExposureNanoseconds / 1_000} µs, "
                    + $"{_system.Remapping.Statistics.DeferredFlushes} flushes");
            }
            Assert.Empty(_breaches);
            Assert.Empty(_machine.Failures);
            Assert.Equal((0, 0), (_machine.Frames.HeldFrames, _machine.Frames.QuarantinedFrames));
            Assert.True(_puts > 100 && _freed > 50 && _watched > 100 && _landed > 100 && _sessions > 0,
                "nothing happened: the test tests nothing");
        }
    }

    private static Thread Start(Action work)
    {
        Thread thread = new(() => work()) { IsBackground = true };
        thread.Start();
        return thread;
    }

    private void Drive(DmaAdapter adapter, Random random)
    {
        while (!Volatile.Read(ref _over))
        {
            Mdl mdl;
            try { mdl = Mdl.Allocate(_machine, (uint)random.Next(1, 8 * Arena.PageBytes)); }
            catch (DmaException)
            {
                Interlocked.Increment(ref _short);
                continue;
            }
            for (int turn = random.Next(1, 4); turn > 0; turn--)
            {
                if (!adapter.TryGetScatterGatherList(
                    mdl, 0, mdl.ByteCount, (DmaDirection)random.Next(1, 4), out ScatterGatherLease list))
                {
                    Interlocked.Increment(ref _short);
                    break;
                }
                Tell(list[0].Address, random);
                adapter.PutScatterGatherList(list);
                Interlocked.Increment(ref _puts);
            }
            mdl.Dispose();
            Interlocked.Increment(ref _freed);
        }
    }

    private void Serve(PciAddress device, Random random)
    {
        var element = new ScatterGatherElement[1];
        while (!Volatile.Read(ref _over))
        {
            using DmaSession session = _system.OpenSession("guest", device, new() { AddressBits = 32 });
            Interlocked.Increment(ref _sessions);
            for (int turn = random.Next(40); turn > 0 && !Volatile.Read(ref _over); turn--)
            {
                if (session.TryAllocate((uint)random.Next(1, 20_000), out DmaHandle buffer) != DmaSessionStatus.Done)
                {
                    Interlocked.Increment(ref _short);
                    continue;
                }
                if (session.TryMap(buffer, 0, 1, DmaDirection.Bidirectional, out DmaHandle mapping)
                    != DmaSessionStatus.Done)
                {
                    continue;
                }
                session.TryGetElements(mapping, element, out _);
                Tell(element[0].Address, random);
                // Now and then the client vanishes with everything mapped.
                if (random.Next(20) == 0) { break; }
                Assert.Equal(DmaSessionStatus.Done, session.TryUnmap(mapping));
                Assert.Equal(DmaSessionStatus.Done, session.TryFree(buffer));
                Interlocked.Increment(ref _clientFrees);
            }
        }
    }

    // The next owner of whatever comes free: what no device was ever given, none reads or writes.
    private void Watch(FrameKind kind, Random random)
    {
        List<PhysicalAddress> mine = [];
        while (!Volatile.Read(ref _over))
        {
            while (mine.Count < 40 && _machine.Frames.TryAllocate(kind, 12, out PhysicalAddress page))
            {
                Fill(page);
                mine.Add(page);
                Interlocked.Increment(ref _watched);
            }
            Pause(random);
            for (int i = random.Next(1, 20); i > 0 && mine.Count > 0; i--)
            {
                int at = random.Next(mine.Count);
                Expect(mine[at], $"a frame in use as {kind}");
                // What follows is somebody else's to read.
                Clear(mine[at]);
                _machine.Frames.Free(mine[at], 12);
                mine.RemoveAt(at);
            }
        }
        foreach (PhysicalAddress page in mine)
        {
            Expect(page, $"a frame in use as {kind}");
            _machine.Frames.Free(page, 12);
        }
    }

    private void Attack(RogueDevice rogue, Random random)
    {
        byte[] venom = new byte[64];
        MemoryMarshal.Cast<byte, ulong>(venom.AsSpan()).Fill(Arena.Venom);
        byte[] loot = new byte[64];
        while (!Volatile.Read(ref _over))
        {
            ulong at = Volatile.Read(ref _told[random.Next(Told)]);
            if (at == 0) { continue; }
            ulong page = (at & ~4095UL) + (random.Next(4) == 0 ? 4096UL : 0);
            LogicalAddress address = new(page + (ulong)random.Next(32) * 64);
            long before = rogue.Port.Pieces;
            if (random.Next(2) == 0) { rogue.Port.Write(address, venom); }
            else
            {
                loot.AsSpan().Clear();
                rogue.Port.Read(address, loot);
                if (MemoryMarshal.Cast<byte, ulong>(loot.AsSpan()).Contains(Secret))
                {
                    Breach($"{rogue.Address} read the next owner's page at {address}");
                }
            }
            if (rogue.Port.Pieces != before) { Interlocked.Increment(ref _landed); }
            else { Pause(random); }
        }
    }

    // The devices hear of it, and most of the time get the chance to use it: only what a unit has cached is stale
    // later.
    private void Tell(LogicalAddress address, Random random)
    {
        Volatile.Write(ref _told[random.Next(Told)], address.Value);
        long before = Volatile.Read(ref _landed);
        for (int i = random.Next(60); i > 0 && Volatile.Read(ref _landed) == before; i--) { Pause(random); }
    }

    private static void Pause(Random random)
    {
        Thread.SpinWait(random.Next(500));
        Thread.Yield();
    }

    private PhysicalAddress[] KeepAllBut(int frames)
    {
        List<PhysicalAddress> kept = [];
        while (((FrameAllocator)_machine.Frames).FreeFrames > frames
            && _machine.Frames.TryAllocate(FrameKind.Buffer, 12, out PhysicalAddress page))
        {
            Fill(page);
            kept.Add(page);
        }
        return [.. kept];
    }

    private void Fill(PhysicalAddress page) => Words(page).Fill(Secret);

    private void Clear(PhysicalAddress page) => Words(page).Clear();

    private void Expect(PhysicalAddress page, string what)
    {
        int at = Words(page).IndexOfAnyExcept(Secret);
        if (at >= 0) { Breach($"{what} changed: {page} word {at}"); }
    }

    private Span<ulong> Words(PhysicalAddress page)
    {
        Assert.True(_machine.Memory.TryGetSpan(page, Arena.PageBytes, out Span<byte> bytes));
        return MemoryMarshal.Cast<byte, ulong>(bytes);
    }

    private void CheckUnitTables()
    {
        foreach (MemoryBank bank in _machine.Memory.Banks.ToArray())
        {
            for (PhysicalAddress page = bank.First; page <= bank.Range.Last; page += Arena.PageBytes)
            {
                if (_machine.Frames.KindOf(page) == FrameKind.UnitTable && Words(page).Contains(Arena.Venom))
                {
                    Breach($"the unit's table at {page} was written");
                }
            }
        }
    }

    private void Breach(string what)
    {
        lock (_breaches) { _breaches.Add(what); }
    }
}
