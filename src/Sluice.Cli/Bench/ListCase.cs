using Sluice.Dma;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>What stands between the buffer and the device in a <see cref="ListCase"/>.</summary>
internal enum ListRoad
{
    /// <summary>Nothing: the buffer's own pages.</summary>
    Identity,

    /// <summary>Nothing, and every page is copied through a pool.</summary>
    Bounce,

    /// <summary>A unit; unmapped before put returns.</summary>
    Strict,

    /// <summary>A unit; unmapped soon.</summary>
    Deferred,

    /// <summary>A unit and permanently mapped slots.</summary>
    Shadow,
}

/// <summary>
/// Get and put of one scatter/gather list on one back-end, held against the same calls on the identity back-end, and
/// that one against copying the bytes once.
/// </summary>
internal sealed class ListCase : BenchCase
{
    private readonly ListRoad _road;
    private readonly uint _bytes;
    private readonly Side _side;
    private readonly Side? _identity;

    /// <summary>Lists of <paramref name="bytes"/> bytes, for the device to write.</summary>
    public ListCase(ListRoad road, uint bytes)
    {
        (_road, _bytes) = (road, bytes);
        _side = new(road, bytes);
        _identity = road == ListRoad.Identity ? null : new(ListRoad.Identity, bytes);
    }

    /// <inheritdoc/>
    public override string Name => NameOf(_road, _bytes);

    /// <inheritdoc/>
    public override string What => _road switch
    {
        ListRoad.Identity => "get and put of one list; the device uses the buffer's own pages",
        ListRoad.Bounce => "get and put of one list without a unit; data copied both ways",
        ListRoad.Strict =>
            "get and put of one list; put returns when the device can no longer reach the buffer, nothing in flight",
        ListRoad.Deferred => "get and put of one list; invalidations shared by many",
        _ => "get and put of one list; data copied both ways, nothing invalidated",
    };

    /// <inheritdoc/>
    public override double? GoalNanoseconds => _road == ListRoad.Strict && _bytes == 4096 ? 350 : null;

    /// <inheritdoc/>
    public override string BaselineName => _identity is null ? "copying the bytes once" : "the same on identity";

    /// <inheritdoc/>
    public override BenchAnchor? Anchor => _road == ListRoad.Strict && _bytes == 4096
        ? new("Linux dma_map_benchmark, one page, strict", 1600)
        : null;

    /// <inheritdoc/>
    public override double ExpectedNanoseconds =>
        _road is ListRoad.Shadow or ListRoad.Bounce ? 200 + _bytes / 25.0 : 200 + _bytes / 256.0;

    /// <summary>A row's name.</summary>
    public static string NameOf(ListRoad road, uint bytes) =>
        $"list-{road.ToString().ToLowerInvariant()}-{bytes / 1024}k";

    /// <inheritdoc/>
    public override void Run(int operations) => _side.Run(operations);

    /// <inheritdoc/>
    public override void RunBaseline(int operations)
    {
        if (_identity is { } identity) { identity.Run(operations); }
        else { _side.Copy(operations); }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _side.Dispose();
        _identity?.Dispose();
    }

    private sealed class Side : IDisposable
    {
        private readonly Machine _machine;
        private readonly DmaSystem _dma;
        private readonly DmaAdapter _adapter;
        private readonly Mdl _buffer;

        private readonly byte[] _copy;

        public Side(ListRoad road, uint bytes)
        {
            bool remaps = road is not (ListRoad.Identity or ListRoad.Bounce);
            _machine = Machine.Create(new()
            {
                Iommu = remaps ? MachineIommu.Vtd : MachineIommu.None, MemoryBytes = 128UL << 20,
            });
            RogueDevice device = _machine.Plug(new RogueDevice());
            _dma = DmaSystem.Start(_machine, new()
            {
                Iommu = remaps ? DmaIommu.Vtd : DmaIommu.None,
                Policy = road switch
                {
                    ListRoad.Deferred => InvalidationPolicy.Deferred,
                    ListRoad.Shadow => InvalidationPolicy.Shadow,
                    _ => InvalidationPolicy.Strict,
                },
                Bounce = road == ListRoad.Bounce ? new() { Always = true } : null,
            });
            _adapter = _dma.CreateAdapter(device.Address, new(), "bench");
            _buffer = Mdl.Allocate(_machine, bytes);
            _copy = new byte[bytes];
        }

        public void Copy(int operations)
        {
            for (int i = 0; i < operations; i++) { _buffer.CopyTo(0, _copy); }
        }

        public void Run(int operations)
        {
            for (int i = 0; i < operations; i++)
            {
                if (!_adapter.TryGetScatterGatherList(
                    _buffer, 0, _buffer.ByteCount, DmaDirection.FromDevice, out ScatterGatherLease list))
                {
                    throw new InvalidOperationException("no logical space");
                }
                _adapter.PutScatterGatherList(list);
            }
        }

        public void Dispose()
        {
            _buffer.Dispose();
            _dma.Dispose();
            _machine.Dispose();
        }
    }
}
