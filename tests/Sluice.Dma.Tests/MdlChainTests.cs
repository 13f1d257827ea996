using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>A transfer ends with the chain that it began with, and a chain has an end.</summary>
public sealed class MdlChainTests : IDisposable
{
    private static readonly PciAddress Device = PciAddress.From(0, 4, 0);
    private readonly TestPlatform _platform = new();
    private readonly DmaSystem _system;
    private readonly DmaAdapter _adapter;

    public MdlChainTests()
    {
        _system = _platform.Start(InvalidationPolicy.Strict);
        _adapter = _system.CreateAdapter(Device, new(), "disk");
    }

    public void Dispose()
    {
        _adapter.Dispose();
        _system.Dispose();
        _platform.Dispose();
    }

    // Seen failing: a link that could be set at any time: the put of x's list took a pin from y, whose own list was
    // still live, and y's frames were freed under the device.
    [Fact]
    public void AMappedMdlKeepsItsLink()
    {
        using Mdl x = Mdl.Allocate(_platform, 4096);
        Mdl y = Mdl.Allocate(_platform, 4096);
        Assert.True(_adapter.TryGetScatterGatherList(x, 0, 4096, DmaDirection.ToDevice, out ScatterGatherLease first));
        Assert.True(_adapter.TryGetScatterGatherList(y, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease own));
        Assert.Contains("1 mapped transfer covers", Assert.Throws<InvalidOperationException>(() => x.Next = y).Message,
            StringComparison.Ordinal);
        Assert.Null(x.Next);
        first.Dispose();
        Assert.Equal(1, y.MappedTransfers);
        y.Dispose();
        Assert.Equal(FrameKind.Buffer, _platform.Frames.KindOf(y.Pages[0]));
        own.Dispose();
        Assert.Equal(FrameKind.Free, _platform.Frames.KindOf(y.Pages[0]));
    }

    // Seen failing: as above, from the other side: a link that was taken away left y pinned for good.
    [Fact]
    public void TheLinksOfAMappedChainStand()
    {
        using Mdl x = Mdl.Allocate(_platform, 4096), y = Mdl.Allocate(_platform, 4096);
        x.Next = y;
        Assert.True(_adapter.TryGetScatterGatherList(x, 0, 8192, DmaDirection.ToDevice, out ScatterGatherLease list));
        Assert.Throws<InvalidOperationException>(() => x.Next = null);
        Assert.Throws<InvalidOperationException>(() => y.Next = x);
        // What it says already may be said again.
        x.Next = y;
        list.Dispose();
        Assert.Equal((0, 0), (x.MappedTransfers, y.MappedTransfers));
        x.Next = null;
    }

    // Seen failing: a chain that was counted, pinned and copied for ever. A length inside the first MDL never counts
    // the chain: that one hung in its pins.
    [Theory]
    [InlineData(1, 100)]
    [InlineData(1, 5000)]
    [InlineData(2, 100)]
    [InlineData(3, 20_000)]
    [InlineData(40, 200_000)]
    public void AChainWithoutAnEndIsRefused(int parts, uint length)
    {
        for (int back = 0; back < parts; back++)
        {
            Mdl[] all = [.. Enumerable.Range(0, parts).Select(_ => Mdl.Allocate(_platform, 4096))];
            for (int i = 1; i < parts; i++) { all[i - 1].Next = all[i]; }
            all[^1].Next = all[back];
            string said = Assert.Throws<InvalidOperationException>(() => _adapter.TryGetScatterGatherList(
                all[0], 0, length, DmaDirection.ToDevice, out _)).Message;
            Assert.Contains("leads back to itself", said, StringComparison.Ordinal);
            Assert.Throws<InvalidOperationException>(() => all[0].ChainByteCount);
            Assert.Throws<InvalidOperationException>(() => all[0].CopyTo(0, new byte[length > 4096 ? length : 4097]));
            Assert.Throws<InvalidOperationException>(() => { _ = _adapter.GetScatterGatherListAsync(
                all[0], 0, length, DmaDirection.ToDevice).AsTask(); });
            Assert.Throws<InvalidOperationException>(() => _adapter.CreateCommonBuffer(all[0], null, 0, 4096));
            Assert.All(all, static part => Assert.Equal(0, part.MappedTransfers));
            Assert.Equal(0, _adapter.Statistics.Outstanding);
            foreach (Mdl part in all)
            {
                part.Next = null;
                part.Dispose();
            }
        }
    }

    // Seen failing: a setter that looked at the pins and then wrote: pinned were other parts than unpinned. And a
    // disposal that came while a link was being set, after which nobody freed the frames.
    [Fact]
    public void WhoMapsAndWhoLinksAtOnceAgreeOnTheChain()
    {
        using Mdl x = Mdl.Allocate(_platform, 4096), y = Mdl.Allocate(_platform, 4096);
        Mdl gone = x;
        // Slots rest before they are used again: until they come round, mappings make tables.
        ScatterGatherLease list = default;
        for (int i = 0; i < 2048; i++)
        {
            Assert.True(_adapter.TryGetScatterGatherList(x, 0, 4096, DmaDirection.ToDevice, out list));
            list.Dispose();
        }
        int free = _platform.TestFrames.Count(FrameKind.Free);
        (int, int) firsts = Race.Run(
            () => gone = Mdl.Allocate(_platform, 4096),
            () => Assert.True(_adapter.TryGetScatterGatherList(x, 0, 4096, DmaDirection.ToDevice, out list)),
            () =>
            {
                try { x.Next = x.Next is null ? y : null; }
                catch (InvalidOperationException) { return false; }
                gone.Next = y;
                return true;
            },
            _ =>
            {
                int chained = x.Next is null ? 0 : 1;
                Assert.Equal((1, chained), (x.MappedTransfers, y.MappedTransfers));
                list.Dispose();
                Assert.Equal((0, 0), (x.MappedTransfers, y.MappedTransfers));
                gone.Dispose();
            });
        Assert.True(firsts.Item1 > 0 && firsts.Item2 > 0);
        Assert.Equal(free, _platform.TestFrames.Count(FrameKind.Free));

        Race.Run(
            () => gone = Mdl.Allocate(_platform, 4096),
            () => gone.Dispose(),
            () =>
            {
                gone.Next = y;
                return true;
            },
            _ => Assert.Equal(FrameKind.Free, _platform.Frames.KindOf(gone.Pages[0])));
    }
}
