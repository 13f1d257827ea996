using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>Where in a slot a transfer's bytes lie, and where in the buffer they go back to.</summary>
public sealed class ShadowTests : IDisposable
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private readonly TestPlatform _platform = new();
    private readonly DmaSystem _system;
    private readonly DmaAdapter _adapter;

    public ShadowTests()
    {
        _system = _platform.Start(
            InvalidationPolicy.Shadow, new() { Shadow = new() { LargestSlotLog2 = 1, MaximumPages = 64 } });
        _adapter = _system.CreateAdapter(Device, new(), "disk");
    }

    public void Dispose()
    {
        _adapter.Dispose();
        _system.Dispose();
        _platform.Dispose();
    }

    private static byte[] Random(int length)
    {
        byte[] bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        return bytes;
    }

    // A chain's parts lie anywhere in their pages, and a transfer may begin in any of them. Seen failing: the place in
    // the page taken from the first part, so that the device was told 0x065; a reservation of as many pages as the
    // transfer touches that threw, and was Dead from then on; at the largest slot, a transfer that was mapped without
    // its reservation.
    [Theory]
    [InlineData(1, false)]
    [InlineData(1, true)]
    [InlineData(2, false)]
    [InlineData(2, true)]
    public void ATransferKeepsThePlaceInThePageOfThePartItBeginsIn(int pages, bool reserved)
    {
        uint length = (uint)pages * 4096;
        using Mdl first = Mdl.Allocate(_platform, 101), second = Mdl.Allocate(_platform, length);
        first.Next = second;
        using DmaReservation? reservation = reserved ? _adapter.Reserve(length, mapRegisters: pages) : null;
        byte[] data = Random((int)length);
        for (int round = 0; round < 3; round++)
        {
            second.CopyFrom(0, new byte[length]);
            Assert.True(reservation is null
                ? _adapter.TryGetScatterGatherList(first, 101, length, DmaDirection.FromDevice,
                    out ScatterGatherLease list)
                : reservation.TryGetScatterGatherList(first, 101, length, DmaDirection.FromDevice, out list));
            Assert.Equal(0UL, list[0].Address.OffsetIn(12));
            Assert.True(_platform.DmaWrite(Device, list[0].Address, data));
            list.Dispose();
            byte[] seen = new byte[length];
            second.CopyTo(0, seen);
            Assert.Equal(data, seen);
        }
        Assert.Equal(3 * length, _system.Statistics.BouncedBytes);
    }

    // Seen failing: a second page at 2^32 of a chain, which was copied from and to the chain's first byte.
    [Theory]
    [InlineData(DmaDirection.ToDevice)]
    [InlineData(DmaDirection.FromDevice)]
    public void BytesBeyondFourGiBOfAChainAreThemselves(DmaDirection direction)
    {
        const uint Long = 0xFFFF_F000;
        using Mdl page = Mdl.Allocate(_platform, 4096), tail = Mdl.Allocate(_platform, 8192);
        var same = new PhysicalAddress[Long >> 12];
        same.AsSpan().Fill(page.Pages[0]);
        using Mdl head = Mdl.Borrow(_platform, same, Long);
        head.Next = tail;
        byte[] data = Random(8192);
        tail.CopyFrom(0, data);
        Assert.True(_adapter.TryGetScatterGatherList(head, Long, 8192, direction, out ScatterGatherLease list));
        byte[] seen = new byte[8192];
        if (direction == DmaDirection.ToDevice)
        {
            Assert.True(_platform.DmaRead(Device, list[0].Address, seen));
            Assert.Equal(data, seen);
        }
        else
        {
            data.AsSpan().Reverse();
            Assert.True(_platform.DmaWrite(Device, list[0].Address, (byte[])data.Clone()));
        }
        list.Dispose();
        tail.CopyTo(0, seen);
        Assert.Equal(data, seen);
        page.CopyTo(0, seen.AsSpan(0, 4096));
        Assert.Equal(new byte[4096], seen[..4096]);
    }
}
