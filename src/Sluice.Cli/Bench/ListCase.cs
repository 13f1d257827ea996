using Sluice.Dma;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>
/// Get and put of one scatter/gather list, under a policy, held against the same calls without a unit.
/// </summary>
internal sealed class ListCase : BenchCase
{
    private readonly InvalidationPolicy _policy;
    private readonly uint _bytes;
    private readonly Side _remapped;
    private readonly Side _identity;

    /// <summary>Lists of <paramref name="bytes"/> bytes, for the device to write.</summary>
    public ListCase(InvalidationPolicy policy, uint bytes)
    {
        (_policy, _bytes) = (policy, bytes);
        _remapped = new(DmaIommu.Vtd, policy, bytes);
        _identity = new(DmaIommu.None, policy, bytes);
    }

    /// <inheritdoc/>
    public override string Name => NameOf(_policy, _bytes);

    /// <inheritdoc/>
    public override string What => _policy switch
    {
        InvalidationPolicy.Strict =>
            "get and put of one list; put returns when the device can no longer reach the buffer, nothing in flight",
        InvalidationPolicy.Deferred => "get and put of one list; invalidations shared by many",
        _ => "get and put of one list; data copied both ways, nothing invalidated",
    };

    /// <inheritdoc/>
    public override double? GoalNanoseconds => _policy == InvalidationPolicy.Strict && _bytes == 4096 ? 500 : null;

    /// <inheritdoc/>
    public override string BaselineName => "the same without a unit";

    /// <inheritdoc/>
    public override BenchAnchor? Anchor => _policy == InvalidationPolicy.Strict && _bytes == 4096
        ? new("Linux dma_map_benchmark, one page, strict", 1600)
        : null;

    /// <inheritdoc/>
    public override double ExpectedNanoseconds =>
        _policy == InvalidationPolicy.Shadow ? 200 + _bytes / 8.0 : 200 + _bytes / 256.0;

    /// <summary>A row's name.</summary>
    public static string NameOf(InvalidationPolicy policy, uint bytes) =>
        $"list-{policy.ToString().ToLowerInvariant()}-{bytes / 1024}k";

    /// <inheritdoc/>
    public override void Run(int operations) => _remapped.Run(operations);

    /// <inheritdoc/>
    public override void RunBaseline(int operations) => _identity.Run(operations);

    /// <inheritdoc/>
    public override void Dispose()
    {
        _remapped.Dispose();
        _identity.Dispose();
    }

    private sealed class Side : IDisposable
    {
        private readonly Machine _machine;
        private readonly DmaSystem _dma;
        private readonly DmaAdapter _adapter;
        private readonly Mdl _buffer;

        public Side(DmaIommu iommu, InvalidationPolicy policy, uint bytes)
        {
            _machine = Machine.Create(new()
            {
                Iommu = iommu == DmaIommu.Vtd ? MachineIommu.Vtd : MachineIommu.None, MemoryBytes = 128UL << 20,
            });
            RogueDevice device = _machine.Plug(new RogueDevice());
            _dma = DmaSystem.Start(_machine, new() { Iommu = iommu, Policy = policy });
            _adapter = _dma.CreateAdapter(device.Address, new(), "bench");
            _buffer = Mdl.Allocate(_machine, bytes);
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
