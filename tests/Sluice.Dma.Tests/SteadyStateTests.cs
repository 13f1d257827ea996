namespace Sluice.Dma.Tests;

public sealed class SteadyStateTests
{
    // Seen failing: a new element array per list.
    [Fact]
    public void R04_RequestsOfEveryLengthAllocateNothing()
    {
        using TestPlatform platform = new();
        using DmaSystem system = DmaSystem.Start(platform, new() { RecentMappings = 64 });
        using DmaAdapter adapter = system.CreateAdapter(PciAddress.From(0, 4, 0), new() { MaximumSegment = 1000 },
            "nvme");
        using Mdl mdl = Mdl.Allocate(platform, 200_000, 100);
        mdl.Next = Mdl.Allocate(platform, 50_000, 3);
        var leases = new ScatterGatherLease[16];
        Random random = new(3);
        long before = 0;
        for (int i = 0; i < 12_000; i++)
        {
            if (i == 4_000) { before = HeapMeter.Now; }
            ref ScatterGatherLease slot = ref leases[i & 15];
            if (slot.IsLive) { adapter.PutScatterGatherList(slot); }
            // The first rounds hold sixteen lists of every array size; later ones stay inside.
            uint length = i < 2000 ? 250_000u >> (i / 200) : (uint)random.Next(1, 100_000);
            Assert.True(adapter.TryGetScatterGatherList(mdl, (uint)random.Next(0, (int)(250_001 - length)), length,
                DmaDirection.ToDevice, out slot));
        }
        HeapMeter.AssertNone(before);
        foreach (ScatterGatherLease lease in leases) { lease.Dispose(); }
        mdl.Next.Dispose();
    }

    // Seen failing: TryCapture that did not look at the life word again.
    [Fact]
    public async Task ThreadsShareAnAdapterWithoutMixingTheirLists()
    {
        using TestPlatform platform = new();
        using DmaSystem system = DmaSystem.Start(platform, new() { RecentMappings = 8 });
        using DmaAdapter adapter = system.CreateAdapter(PciAddress.From(0, 4, 0), new(), "nvme");
        using CancellationTokenSource stop = new();
        Task reader = Task.Run(() =>
        {
            while (!stop.IsCancellationRequested)
            {
                foreach (MappingRecord record in system.History.Read())
                {
                    // Every thread maps (tag + 1) bytes in a direction that follows from its tag: a torn copy breaks
                    // the rule.
                    Assert.Equal(record.Tag + 1, record.Length);
                    Assert.Equal((DmaDirection)((record.Tag % 3) + 1), record.Direction);
                }
            }
        });
        Parallel.For(0, 4, thread =>
        {
            using Mdl mdl = Mdl.Allocate(platform, 65536);
            var leases = new (ScatterGatherLease List, uint Length)[8];
            Random random = new(thread);
            for (int i = 0; i < 20_000; i++)
            {
                ref (ScatterGatherLease List, uint Length) slot = ref leases[random.Next(8)];
                if (slot.Length != 0)
                {
                    uint sum = 0;
                    foreach (ScatterGatherElement element in slot.List) { sum += element.Length; }
                    Assert.Equal(slot.Length, sum);
                    adapter.PutScatterGatherList(slot.List);
                    slot = default;
                    continue;
                }
                uint length = (uint)random.Next(1, 65536);
                DmaDirection direction = (DmaDirection)(((length - 1) % 3) + 1);
                Assert.True(adapter.TryGetScatterGatherList(mdl, 0, length, direction, out slot.List, tag: length - 1));
                slot.Length = length;
                Assert.Equal(mdl.Pages[0].Value, slot.List[0].Address.Value);
            }
            foreach ((ScatterGatherLease list, uint length) in leases)
            {
                if (length != 0) { list.Dispose(); }
            }
        });
        await stop.CancelAsync();
        await reader;
        Assert.Equal(0, adapter.Statistics.Outstanding);
        Assert.Equal(adapter.Statistics.Requests, system.History.Read()[^1].Number);
    }
}
