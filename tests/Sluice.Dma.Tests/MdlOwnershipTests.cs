namespace Sluice.Dma.Tests;

/// <summary>
/// Between get and put a buffer's bytes are the device's: the processor's view refuses, exactly there.
/// </summary>
public sealed class MdlOwnershipTests : IDisposable
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private readonly TestPlatform _platform = new();

    public static TheoryData<string> All => BackendTests.All;

    public void Dispose() => _platform.Dispose();

    private DmaSystem Start(string backend) => _platform.Start(
        BackendTests.PolicyOf(backend),
        backend == "bounce" ? new() { Bounce = new() { Pages = 64, Areas = 1, Always = true } } : new());

    [Theory]
    [MemberData(nameof(All))]
    public void T08_PutComesBeforeTheProcessorReadsAndAfterItTheDeviceIsOut(string backend)
    {
        using DmaSystem system = Start(backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "nvme");
        using Mdl mdl = Mdl.Allocate(_platform, 9000, 100);
        byte[] bytes = new byte[9000];
        foreach (DmaDirection direction in new[] { DmaDirection.FromDevice, DmaDirection.Bidirectional })
        {
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 9000, direction, out ScatterGatherLease list));
            LogicalAddress address = list[0].Address;
            Assert.True(_platform.DmaWrite(Device, address, [0xA5]));
            InvalidOperationException read = Assert.Throws<InvalidOperationException>(() => mdl.CopyTo(0, bytes));
            Assert.Equal(
                $"bytes 0 to 8999 are not the processor's to read: mapping #{list.Number} ({direction}) of nvme "
                + "0000:00:04.0, got by MdlOwnershipTests.T08_PutComesBeforeTheProcessorReadsAndAfterItTheDeviceIsOut, "
                + "covers some of them. Put its list first", read.Message);
            Assert.Throws<InvalidOperationException>(() => mdl.GetReadOnlySpan(8999).Length);
            Assert.Throws<InvalidOperationException>(() => mdl.GetSpan(0).Length);
            Assert.Throws<InvalidOperationException>(() => mdl.CopyFrom(5, bytes.AsSpan(0, 1)));

            list.Dispose();
            mdl.CopyTo(0, bytes);
            Assert.Equal(0xA5, bytes[0]);
            Assert.Equal(0xA5, mdl.GetReadOnlySpan(0)[0]);
            mdl.GetSpan(0)[0] = 0;
            // The list is poison, and so is the address where a unit can see to that.
            Assert.Throws<InvalidOperationException>(() => list.Count);
            Assert.Throws<InvalidOperationException>(() => list[0]);
            Assert.Throws<InvalidOperationException>(() => list.Dispose());
            if (backend == "strict") { Assert.False(_platform.DmaWrite(Device, address, [1])); }
        }
    }

    // Seen failing: no exception for reads of what the device only reads; a byte behind the mapping counted in.
    [Theory]
    [MemberData(nameof(All))]
    public void WhatTheDeviceOnlyReadsTheProcessorMayReadToo(string backend)
    {
        using DmaSystem system = Start(backend);
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "nvme");
        using Mdl mdl = Mdl.Allocate(_platform, 5000);
        mdl.CopyFrom(4097, [7]);
        byte[] bytes = new byte[5000];
        Assert.True(adapter.TryGetScatterGatherList(mdl, 0, 5000, DmaDirection.ToDevice, out ScatterGatherLease list));
        mdl.CopyTo(0, bytes);
        Assert.Equal(7, bytes[4097]);
        Assert.Equal(7, mdl.GetReadOnlySpan(4097)[0]);
        Assert.Throws<InvalidOperationException>(() => mdl.GetSpan(4097).Length);
        Assert.Throws<InvalidOperationException>(() => mdl.CopyFrom(0, [1]));
        // Two transfers: the stricter one counts.
        Assert.True(adapter.TryGetScatterGatherList(mdl, 4000, 1000, DmaDirection.FromDevice,
            out ScatterGatherLease other));
        Assert.Throws<InvalidOperationException>(() => mdl.CopyTo(0, bytes));
        mdl.CopyTo(0, bytes.AsSpan(0, 4000));
        other.Dispose();
        mdl.CopyTo(0, bytes);
        list.Dispose();
        mdl.CopyFrom(0, [1]);
    }

    // Seen failing: as above.
    [Fact]
    public void OwnershipIsByTheByteThroughChainsAndOffsets()
    {
        using DmaSystem system = Start("strict");
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "nvme");
        for (int round = 0; round < 300; round++)
        {
            Random random = new(round);
            List<Mdl> parts = [.. Enumerable.Range(0, random.Next(1, 4)).Select(
                _ => Mdl.Allocate(_platform, (uint)random.Next(1, 6000), random.Next(4096)))];
            for (int i = 1; i < parts.Count; i++) { parts[i - 1].Next = parts[i]; }
            uint total = (uint)parts[0].ChainByteCount;
            List<(uint First, uint Last, DmaDirection Direction, ScatterGatherLease List)> live = [];
            for (int i = random.Next(1, 4); i > 0; i--)
            {
                uint first = (uint)random.Next((int)total), length = (uint)random.Next(1, (int)(total - first) + 1);
                var direction = (DmaDirection)random.Next(1, 4);
                Assert.True(adapter.TryGetScatterGatherList(parts[0], first, length, direction,
                    out ScatterGatherLease list));
                live.Add((first, first + length - 1, direction, list));
            }
            for (int probe = 0; probe < 20; probe++)
            {
                uint first = (uint)random.Next((int)total), length = (uint)random.Next(1, (int)(total - first) + 1);
                bool writes = random.Next(2) == 0;
                bool owned = !live.Exists(m => m.First < first + length && m.Last >= first
                    && (writes || m.Direction != DmaDirection.ToDevice));
                byte[] bytes = new byte[length];
                Exception? refused = Record.Exception(() =>
                {
                    if (writes) { parts[0].CopyFrom(first, bytes); }
                    else { parts[0].CopyTo(first, bytes); }
                });
                Assert.True(refused is null == owned, $"round {round}: {first}+{length} {writes}: {refused?.Message}");

                // A span of one part: to the end of the page, or as many bytes as are wanted.
                int which = random.Next(parts.Count);
                uint at = (uint)random.Next((int)parts[which].ByteCount);
                uint want = (uint)random.Next(1, 5000);
                uint before = (uint)parts.Take(which).Sum(static p => p.ByteCount);
                uint got = Math.Min(want, Math.Min(parts[which].ByteCount - at,
                    4096 - (((uint)parts[which].ByteOffset + at) & 4095)));
                bool free = !live.Exists(m => m.First < before + at + got && m.Last >= before + at);
                Assert.Equal(free, Record.Exception(() => parts[which].GetSpan(at, want).Length) is null);
                if (free) { Assert.Equal((int)got, parts[which].GetSpan(at, want).Length); }
            }
            live.ForEach(static m => m.List.Dispose());
            parts[0].CopyFrom(0, new byte[total]);
            parts.ForEach(static p => p.Dispose());
        }
    }

    // Whoever races a put sees yes or no, never nonsense, and nothing is refused that nobody has.
    [Fact]
    public async Task AskingWhileOthersGetAndPutIsSafe()
    {
        using DmaSystem system = _platform.Start(null, new() { RecentMappings = 4 });
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "nvme");
        using Mdl mdl = Mdl.Allocate(_platform, 8192);
        using Mdl other = Mdl.Allocate(_platform, 100);
        Assert.True(adapter.TryGetScatterGatherList(mdl, 8000, 10, DmaDirection.FromDevice,
            out ScatterGatherLease held));
        using CancellationTokenSource stop = new();
        Task driver = Task.Run(() =>
        {
            Random random = new(1);
            while (!stop.IsCancellationRequested)
            {
                // Never the first bytes of the one, and every byte of another, in records that are used over and over.
                bool one = random.Next(2) == 0;
                uint first = one ? (uint)random.Next(1000, 7000) : 0;
                Assert.True(adapter.TryGetScatterGatherList(one ? mdl : other, first, one ? 900u : 100u,
                    DmaDirection.FromDevice, out ScatterGatherLease list));
                list.Dispose();
            }
        });
        byte[] bytes = new byte[1000];
        for (int i = 0; i < 60_000; i++) { mdl.CopyTo(0, bytes); }
        await stop.CancelAsync();
        await driver;
        held.Dispose();
    }

    [Fact]
    public void LookingCostsNothingWhereNothingIsMapped()
    {
        using DmaSystem system = Start("none");
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "nvme");
        using Mdl mdl = Mdl.Allocate(_platform, 4096), mapped = Mdl.Allocate(_platform, 4096);
        Assert.True(adapter.TryGetScatterGatherList(mapped, 0, 4096, DmaDirection.FromDevice,
            out ScatterGatherLease list));
        byte[] bytes = new byte[4096];
        mdl.CopyTo(0, bytes);
        long before = HeapMeter.Now;
        for (int i = 0; i < 1000; i++)
        {
            mdl.CopyTo(0, bytes);
            mdl.GetSpan(0)[0] = 1;
        }
        HeapMeter.AssertNone(before);
        list.Dispose();
    }
}
