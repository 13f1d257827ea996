using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>Under the shadow policy a device sees no byte outside its buffer, however long that is.</summary>
public sealed class ShadowIsolationTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);

    // Seen failing: transfers, reservations and channels wider than the largest slot, whose pages were mapped as they
    // lie: the rest of the first and of the last one was there to be read and written, while the capabilities denied
    // it.
    [Theory]
    [InlineData("list")]
    [InlineData("reservation")]
    [InlineData("channel")]
    public void NoByteOutsideTheBufferIsEverVisible(string how)
    {
        for (int round = 0; round < 60; round++)
        {
            Random random = new(round);
            using TestPlatform platform = new(round, 2 << 20);
            using DmaSystem system = platform.Start(InvalidationPolicy.Shadow,
                new() { Shadow = new() { LargestSlotLog2 = round % 3, MaximumPages = 64 } });
            using DmaAdapter adapter = system.CreateAdapter(Device, new(), "disk");
            Assert.Equal(uint.MaxValue, adapter.Capabilities.SubPageIsolation);
            uint length = (uint)random.Next(1, 12 * 4096);
            (int before, int after) = (random.Next(4096), random.Next(4096));
            // Around the buffer, in its own pages and in the next, lie other people's bytes.
            int offset = random.Next(4096);
            using Mdl all = Mdl.Allocate(platform, (uint)(before + after) + length, offset);
            byte[] content = new byte[all.ByteCount];
            content.AsSpan().Fill(0xEE);
            byte[] data = new byte[length];
            random.NextBytes(data);
            for (int i = 0; i < data.Length; i++) { data[i] = (byte)(data[i] | 1); }
            data.AsSpan().Replace((byte)0xEE, (byte)0xED);
            data.CopyTo(content, before);
            all.CopyFrom(0, content);
            using DmaReservation? reservation = how == "reservation" ? adapter.Reserve(length) : null;
            DmaChannel? channel = null;
            int pages = DmaAdapter.CountMapRegisters(all, (uint)before, length);
            Assert.True(how != "channel" || adapter.TryAllocateChannel(pages, out channel));
            foreach (DmaDirection direction in new[] { DmaDirection.ToDevice, DmaDirection.FromDevice })
            {
                ScatterGatherLease list;
                if (channel is not null)
                {
                    Assert.Equal(DmaFailure.None,
                        channel.TryMap(all, (uint)before, length, direction, out list, out uint mapped));
                    Assert.Equal(length, mapped);
                }
                else
                {
                    Assert.True(reservation is null
                        ? adapter.TryGetScatterGatherList(all, (uint)before, length, direction, out list)
                        : reservation.TryGetScatterGatherList(all, (uint)before, length, direction, out list));
                }
                Look(platform, list, direction, data);
                list.Dispose();
                if (direction == DmaDirection.FromDevice) { data.AsSpan().Reverse(); }
            }
            data.CopyTo(content, before);
            byte[] seen = new byte[content.Length];
            all.CopyTo(0, seen);
            Assert.Equal(content, seen);
            channel?.Dispose();
        }
    }

    // Every byte of every page that the elements touch, and of the pages around them.
    private static void Look(TestPlatform platform, ScatterGatherLease list, DmaDirection direction, byte[] data)
    {
        ulong first = list.Elements().Min(static e => e.Address.AlignDown(12).Value) - 4096;
        ulong last = list.Elements().Max(static e => (e.Address + (e.Length - 1)).AlignDown(12).Value) + 4096;
        byte[] page = new byte[4096];
        int seen = 0;
        for (ulong at = first; at <= last; at += 4096)
        {
            if (direction == DmaDirection.ToDevice)
            {
                if (!platform.DmaRead(Device, new(at), page)) { continue; }
                Assert.DoesNotContain((byte)0xEE, page);
                seen += page.Count(static b => b != 0);
                continue;
            }
            page.AsSpan().Fill(0x77);
            platform.DmaWrite(Device, new(at), page);
        }
        if (direction == DmaDirection.ToDevice)
        {
            Assert.Equal(data.Length, seen);
            return;
        }
        byte[] reversed = [.. data.Reverse()];
        int done = 0;
        foreach (ScatterGatherElement element in list)
        {
            Assert.True(platform.DmaWrite(Device, element.Address, reversed[done..(done + (int)element.Length)]));
            done += (int)element.Length;
        }
    }
}
