using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>What an adapter announces can be had, and what can never be had is refused at once, at every entry.</summary>
public sealed class MostRegistersTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);

    public static TheoryData<string, int, bool> All()
    {
        TheoryData<string, int, bool> all = [];
        foreach (string backend in new[] { "none", "bounce", "strict", "deferred", "shadow", "isolated" })
        {
            foreach (int bits in new[] { 12, 13, 16, 20, 24, 25, 32, 40, 64 })
            {
                all.Add(backend, bits, true);
                if (bits is 24 or 64) { all.Add(backend, bits, false); }
            }
        }
        return all;
    }

    // Seen failing: an adapter behind a unit that announced no limit. 24 bits: 2,048 pages follow each other below
    // 16 MiB, and a channel of 4,097 waited for ever with everybody behind it; 12 bits: a list that nothing could map
    // was "short of resources, try again".
    [Theory]
    [MemberData(nameof(All))]
    public async Task WhatIsAnnouncedIsGrantedAndWhatIsMoreIsRefused(string backend, int bits, bool list)
    {
        using TestPlatform platform = new(bytesPerBank: 24 << 20);
        using DmaSystem system = platform.Start(BackendTests.PolicyOf(backend),
            BackendTests.OptionsOf(backend, 100) with { Shadow = new() { LargestSlotLog2 = 4, MaximumPages = 64 } });
        using DmaAdapter adapter = system.CreateAdapter(
            Device, new() { AddressBits = bits, ScatterGather = list }, "disk");
        int most = adapter.MostMapRegisters;
        if (most == int.MaxValue)
        {
            // Nothing is needed to map a page, and everything in reach is.
            Assert.Equal("none", backend);
            most = 5000;
            (await adapter.AllocateChannelAsync(most)).Dispose();
            return;
        }
        int known = backend switch
        {
            "none" => 1,
            _ when bits == 12 => 0,
            "bounce" => bits < 25 ? 0 : list ? 100 : most,
            // Windows on the bus end the last quarter of 4 GiB.
            _ when bits == 32 && backend != "isolated" => 1 << 18,
            _ => Math.Min(bits == 13 ? 1 : 1 << Math.Min(bits - 13, 20), backend == "isolated" ? 100 : int.MaxValue),
        };
        // Slots are for any number of pages; longer transfers copy through a pool of its own.
        if (backend == "shadow") { Assert.InRange(most, Math.Min(known, 1), known); }
        else { Assert.Equal(known, most); }
        // Whatever was asked before.
        for (int round = 0; round < 2; round++)
        {
            await Refused(platform, adapter, most + 1);
            await Refused(platform, adapter, most * 2 + 2);
            await Refused(platform, adapter, (1 << 20) + 1);
            if (most == 0 || most > 4096) { continue; }
            Assert.True(adapter.TryAllocateChannel(most, out DmaChannel? channel));
            channel.Dispose();
            (await adapter.AllocateChannelAsync(most)).Dispose();
            adapter.Reserve((uint)Math.Min(most * 4096L, uint.MaxValue), most).Dispose();
        }
        Assert.Equal(0, adapter.Statistics.Outstanding);
    }

    // Seen failing: a run of addresses that a reservation keeps was counted as if it came back: the request waited for
    // good.
    [Theory]
    [InlineData("strict")]
    [InlineData("deferred")]
    [InlineData("isolated")]
    public void WhatReservationsKeepIsNotWaitedFor(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(BackendTests.PolicyOf(backend), BackendTests.OptionsOf(backend, 1000));
        using DmaAdapter adapter = system.CreateAdapter(Device, new() { AddressBits = 20 }, "disk");
        Assert.Equal(128, adapter.MostMapRegisters);
        using (adapter.Reserve(128 * 4096, 128))
        {
            Assert.Throws<DmaException>(() => adapter.TryAllocateChannel(128, out _));
            Assert.Throws<DmaException>(() => adapter.AllocateChannel(new(adapter), 128, static (_, _, _) => { }));
            Assert.True(adapter.TryAllocateChannel(16, out DmaChannel? small));
            small.Dispose();
        }
        Assert.True(adapter.TryAllocateChannel(128, out DmaChannel? channel));
        channel.Dispose();
    }

    // Seen failing: an array of frames for a buffer that no machine holds, before anybody looked.
    [Theory]
    [InlineData("strict")]
    [InlineData("shadow")]
    [InlineData("none")]
    public void ACommonBufferThatNoMachineHoldsIsRefusedAtOnce(string backend)
    {
        using TestPlatform platform = new();
        using DmaSystem system = platform.Start(BackendTests.PolicyOf(backend), BackendTests.OptionsOf(backend));
        using DmaAdapter adapter = system.CreateAdapter(Device, new(), "disk");
        long before = GC.GetAllocatedBytesForCurrentThread();
        foreach (ulong length in new[] { 17UL << 20, 1UL << 40, 1UL << 42 })
        {
            Assert.Equal(DmaFailure.OutOfResources,
                Assert.Throws<DmaException>(() => adapter.AllocateCommonBuffer(length)).Failure);
        }
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1 << 20);
    }

    private static async Task Refused(TestPlatform platform, DmaAdapter adapter, int registers)
    {
        string said = Assert.Throws<DmaException>(() => adapter.TryAllocateChannel(registers, out _)).Message;
        Assert.Contains($"and not {registers}", said, StringComparison.Ordinal);
        Assert.Throws<DmaException>(() => adapter.AllocateChannel(
            new(adapter), registers, static (_, _, _) => throw new TimeoutException("called back")));
        await Assert.ThrowsAsync<DmaException>(() => adapter.AllocateChannelAsync(registers).AsTask());
        uint length = (uint)Math.Min(registers * 4096L, uint.MaxValue);
        if (adapter.Capabilities.IsRemapped) { Assert.Throws<DmaException>(() => adapter.Reserve(length, registers)); }
        using Mdl page = Mdl.Allocate(platform, 4096);
        var same = new PhysicalAddress[(int)((length + 4095UL) >> 12)];
        same.AsSpan().Fill(page.Pages[0]);
        using Mdl mdl = Mdl.Borrow(platform, same, length);
        // Whole pages need no copy: a list may be longer than what can be set aside. But it is never "not now".
        try
        {
            Assert.True(adapter.TryGetScatterGatherList(mdl, 0, length, DmaDirection.ToDevice,
                out ScatterGatherLease list));
            list.Dispose();
            (await adapter.GetScatterGatherListAsync(mdl, 0, length, DmaDirection.ToDevice)
                .AsTask().WaitAsync(TimeSpan.FromSeconds(20))).Dispose();
        }
        catch (DmaException)
        {
            await Assert.ThrowsAsync<DmaException>(() => adapter.GetScatterGatherListAsync(
                mdl, 0, length, DmaDirection.ToDevice).AsTask().WaitAsync(TimeSpan.FromSeconds(20)));
            bool told = false;
            adapter.GetScatterGatherList(mdl, 0, length, DmaDirection.ToDevice,
                (_, failure, _) => told = failure != DmaFailure.None);
            Assert.True(told);
        }
    }
}
