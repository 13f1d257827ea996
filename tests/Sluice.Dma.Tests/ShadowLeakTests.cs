using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>What a transfer through a slot leaks is the slot, and its release gives it back.</summary>
public sealed class ShadowLeakTests
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private static readonly PciAddress Other = PciAddress.From(0, 5, 0);

    // Seen failing: a release that ended the quarantine of the driver's buffer alone: the slot stayed rented for good,
    // and the pool's end quarantined its frames. Of a reservation, all three slots.
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(false, true)]
    [InlineData(true, true)]
    public void AfterTheReleaseTheSlotsFramesAreUsedAgain(bool reserved, bool shared)
    {
        using TestPlatform platform = new();
        int free = platform.TestFrames.Count(FrameKind.Free);
        DmaSystem system = platform.Start(
            InvalidationPolicy.Shadow, new() { Shadow = new() { LargestSlotLog2 = 2, MaximumPages = 64 } });
        int units = free - platform.TestFrames.Count(FrameKind.Free);
        DmaAdapter adapter = system.CreateAdapter(Device, new(), "disk");
        DmaAdapter? mate = shared ? system.CreateAdapter(Other, new(), "mate") : null;
        mate?.JoinDomain(adapter);
        Mdl mdl = Mdl.Allocate(platform, 10_000, 77);
        DmaReservation? reservation = reserved ? adapter.Reserve(10_000) : null;
        Assert.True(reservation is null
            ? adapter.TryGetScatterGatherList(mdl, 0, 10_000, DmaDirection.FromDevice, out _)
            : reservation.TryGetScatterGatherList(mdl, 0, 10_000, DmaDirection.FromDevice, out _));
        adapter.Dispose();
        DmaLeak leak = Assert.Single(system.Leaks);
        leak.Release();
        Assert.True(leak.IsReleased);
        mate?.Dispose();
        Assert.Equal(0, platform.Frames.QuarantinedFrames);
        mdl.Dispose();
        system.Dispose();
        Assert.Equal(0, platform.Frames.QuarantinedFrames);
        // The bus's context table stays with the unit.
        Assert.InRange(free - units - platform.TestFrames.Count(FrameKind.Free), 0, 64 + 3);
        Assert.Equal(0, platform.TestFrames.Count(FrameKind.Buffer));
    }
}
