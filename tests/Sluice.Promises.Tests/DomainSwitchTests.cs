using System.Diagnostics;
using System.Runtime.InteropServices;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Promises.Tests;

/// <summary>
/// Promises 2 and 3 while devices never stop: domains change under continuous DMA, and what every single request saw is
/// checked.
/// </summary>
/// <remarks>
/// Two domains map the same logical addresses to pages of their own. Before the device comes to a domain its pages are
/// filled with the number of that change: nobody can reach them then, if the change before kept its promise. A request
/// that reads two numbers saw a mixture; one that reads a smaller number than before went back to the old domain; a
/// page that is not as it was filled when its turn comes was written through the old domain.
/// </remarks>
public sealed class DomainSwitchTests
{
    private const int Pages = 2;
    private static readonly TimeSpan Duration = TimeSpan.FromSeconds(0.8);

    // Seen failing: TryReplace as two 64-bit stores with a yield between them (requests were refused); Switch without
    // InvalidateDevice (mixtures, going back, pages written after it returned); a drain that waits for nobody.
    [Theory]
    [InlineData(true, false)]
    [InlineData(true, true)]
    [InlineData(false, true)]
    public void I07NoRequestSeesAMixtureWhileDomainsChange(bool atomic, bool forgers)
    {
        // One slot for contexts, which a neighbour keeps taking: the unit reads entries from memory all the time.
        using Arena arena = new(new() { ContextSetsLog2 = 0, ContextWays = 1 }, rogues: 4);
        Stage stage = new(arena, arena.Rogues[0].Address);
        long[] reads = new long[2];
        Volatile.Write(ref stage.Over, false);
        List<Thread> devices = [Start(() => stage.Read(arena.Rogues[0].Port, mayGoBack: forgers, ref reads[0]))];
        devices.Add(Start(() => stage.Disturb(arena.Rogues[3])));
        if (forgers)
        {
            // Two more that use the device's id: a unit serves them all at once, and which of two requests in flight
            // is the later one nobody can say.
            devices.Add(Start(() => stage.Write(arena.Rogues[1].Port, ref reads[1])));
            devices.Add(Start(() => stage.Read(arena.Rogues[2].Port, mayGoBack: true, ref reads[1])));
        }
        Stopwatch watch = Stopwatch.StartNew();
        Random random = new(1);
        int changes = 0;
        for (; watch.Elapsed < Duration || (changes < 20 && watch.Elapsed < 10 * Duration); changes++)
        {
            stage.Change(atomic, random);
            Thread.SpinWait(random.Next(3000));
        }
        Volatile.Write(ref stage.Over, true);
        foreach (Thread device in devices) { Assert.True(device.Join(TimeSpan.FromSeconds(30)), "a device hangs"); }
        Assert.Empty(arena.Machine.Failures);
        arena.AssertKept();
        Assert.True(changes >= 20 && Volatile.Read(ref reads[0]) > 100, $"{changes} changes, {reads[0]} reads");
        long refused = arena.Rogues[..3].Sum(static r => r.Port.Refused);
        // The atomic change refuses nothing, ever; the other one blocks in between.
        if (atomic && PhysicalMemory.HasAtomic128) { Assert.Equal(0, refused); }
        if (!atomic) { Assert.True(refused > 0, "no request met the moment in between"); }
    }

    private static Thread Start(Action work)
    {
        Thread thread = new(() => work()) { IsBackground = true };
        thread.Start();
        return thread;
    }

    /// <summary>Two domains with the same logical addresses: pages to read, and pages to write.</summary>
    private sealed class Stage
    {
        internal bool Over;
        private readonly Arena _arena;
        private readonly PciAddress _device;
        private readonly Domain[] _domains;
        private readonly PhysicalAddress[][] _toRead;
        private readonly PhysicalAddress[][] _toWrite;
        private readonly LogicalAddress _readAt;
        private readonly LogicalAddress _writeAt;
        private ulong _change = 1;
        private int _here;

        internal Stage(Arena arena, PciAddress device)
        {
            (_arena, _device) = (arena, device);
            _domains =
            [
                arena.Remapping.CreateDomain(new() { Name = "a" }),
                arena.Remapping.CreateDomain(new() { Name = "b", AddressBits = 36 }),
            ];
            LogicalAddress limit = new(0xFFFF_FFFF);
            _toRead = new PhysicalAddress[2][];
            _toWrite = new PhysicalAddress[2][];
            for (int i = 0; i < 2; i++)
            {
                _toRead[i] = [.. Enumerable.Range(0, Pages).Select(_ => arena.NewFrame(_change))];
                _toWrite[i] = [.. Enumerable.Range(0, Pages).Select(_ => arena.NewFrame(Arena.Canary))];
                Domain domain = _domains[i];
                Assert.Equal(
                    MapStatus.Mapped, domain.TryMap(_toRead[i], DmaAccess.Read, limit, out DomainMapping reads));
                Assert.Equal(
                    MapStatus.Mapped, domain.TryMap(_toWrite[i], DmaAccess.Write, limit, out DomainMapping writes));
                Assert.True(i == 0 || (_readAt == reads.First && _writeAt == writes.First), "the domains differ");
                (_readAt, _writeAt) = (reads.First, writes.First);
            }
            arena.Remapping.Attach(_domains[0], device);
        }

        internal void Change(bool atomic, Random random)
        {
            int next = 1 - _here;
            _change++;
            // Not reachable since the change before last: what is written here no request may see half done.
            foreach (PhysicalAddress page in _toRead[next])
            {
                int at = _arena.FirstOther(page, _change - (_change > 2 ? 2UL : 1));
                if (at >= 0) { _arena.Breach($"a page to read changed at byte {at}"); }
                _arena.Fill(page, _change);
            }
            if (atomic) { _arena.Remapping.Switch(_device, _domains[next]); }
            else
            {
                if (random.Next(2) == 0) { _arena.Remapping.Detach(_device); }
                _arena.Remapping.Attach(_domains[next], _device);
            }
            foreach (PhysicalAddress page in _toWrite[_here]) { _arena.Fill(page, Arena.Canary); }
            Thread.SpinWait(random.Next(2000));
            foreach (PhysicalAddress page in _toWrite[_here])
            {
                int at = _arena.FirstOther(page, Arena.Canary);
                if (at >= 0) { _arena.Breach($"change {_change}: byte {at} of a page left behind was written"); }
            }
            _here = next;
        }

        /// <summary>A device that reads both pages in one transfer, over and over.</summary>
        internal void Read(DmaPort port, bool mayGoBack, ref long count)
        {
            byte[] bytes = new byte[Pages * Arena.PageBytes];
            ulong latest = 0;
            while (!Volatile.Read(ref Over))
            {
                if (port.Read(_device.Requester, _readAt, bytes) != DmaStatus.Completed) { continue; }
                count++;
                for (int page = 0; page < Pages; page++)
                {
                    Span<ulong> words =
                        MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan(page * Arena.PageBytes, Arena.PageBytes));
                    ulong seen = words[0];
                    if (words.ContainsAnyExcept(seen))
                    {
                        _arena.Breach($"one request saw {seen} and {words[words.IndexOfAnyExcept(seen)]}");
                    }
                    if (seen < latest && !mayGoBack) { _arena.Breach($"after {latest} a request saw {seen}"); }
                    latest = seen;
                }
            }
        }

        /// <summary>A device in a domain that never changes: it is never refused anything.</summary>
        internal void Disturb(RogueDevice neighbour)
        {
            Domain own = _arena.Remapping.CreateDomain(new() { Name = "neighbour" });
            PhysicalAddress[] page = [_arena.NewFrame(Arena.Canary)];
            own.TryMap(page, DmaAccess.Read, new(ulong.MaxValue), out DomainMapping mapping);
            _arena.Remapping.Attach(own, neighbour.Address);
            byte[] word = new byte[8];
            while (!Volatile.Read(ref Over))
            {
                DmaStatus status = neighbour.Port.Read(mapping.First, word);
                if (status != DmaStatus.Completed || MemoryMarshal.Read<ulong>(word) != Arena.Canary)
                {
                    _arena.Breach("a device in another domain was disturbed");
                }
            }
        }

        /// <summary>A device that writes both pages in one transfer, over and over.</summary>
        internal void Write(DmaPort port, ref long count)
        {
            byte[] bytes = new byte[Pages * Arena.PageBytes];
            MemoryMarshal.Cast<byte, ulong>(bytes.AsSpan()).Fill(Arena.Venom);
            while (!Volatile.Read(ref Over))
            {
                if (port.Write(_device.Requester, _writeAt, bytes) == DmaStatus.Completed) { count++; }
            }
        }
    }
}
