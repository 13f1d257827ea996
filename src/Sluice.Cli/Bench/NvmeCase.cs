using Sluice.Cli.Run;
using Sluice.Dma;
using Sluice.Drivers.Nvme;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>
/// Random 4 KiB reads from a file through the whole stack, 64 in flight, held against the same without a unit.
/// </summary>
internal sealed class NvmeCase : BenchCase
{
    private readonly InvalidationPolicy _policy;
    // Where a machine's memory happens to land decides as much as the policy: batches go round several of them.
    private const int Machines = 4;
    private readonly Side[] _remapped = new Side[Machines];
    private readonly Side[] _identity = new Side[Machines];
    private int _turn;

    /// <summary>Reads under a policy.</summary>
    public NvmeCase(InvalidationPolicy policy)
    {
        _policy = policy;
        for (int i = 0; i < Machines; i++)
        {
            _remapped[i] = new(IommuKind.Vtd, policy);
            _identity[i] = new(IommuKind.None, policy);
        }
    }

    /// <inheritdoc/>
    public override string Name => NameOf(_policy);

    /// <inheritdoc/>
    public override string What => "one 4 KiB random read from a 64 MiB file (a file per machine) in the page cache, 64 in flight, polled";

    /// <inheritdoc/>
    public override double? GoalRatio => _policy == InvalidationPolicy.Strict ? 0.80 : null;

    /// <inheritdoc/>
    public override string BaselineName => "the same without a unit";

    /// <inheritdoc/>
    public override TimeSpan WarmUp => TimeSpan.FromSeconds(4);

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => 2_000;

    /// <summary>A row's name.</summary>
    public static string NameOf(InvalidationPolicy policy) => $"nvme-read-4k-{policy.ToString().ToLowerInvariant()}";

    /// <inheritdoc/>
    public override void Run(int operations) => _remapped[_turn % Machines].Run(operations);

    /// <inheritdoc/>
    public override void RunBaseline(int operations) => _identity[_turn++ % Machines].Run(operations);

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (Side side in _remapped.Concat(_identity)) { side.Dispose(); }
    }

    private sealed class Side : IDisposable
    {
        private const int InFlight = 64;
        private const uint ReadBytes = 4096;
        private readonly DiskImage _disk = DiskImage.At(null);
        private readonly Pc _pc;
        private readonly Mdl[] _buffers = new Mdl[InFlight];
        private readonly ValueTask[] _reads = new ValueTask[InFlight];
        private readonly Random _random = new(5);
        private readonly NvmeNamespace _target;
        private readonly int _pages;

        public Side(IommuKind iommu, InvalidationPolicy policy)
        {
            _pages = (int)(_disk.Length / ReadBytes);
            RunOptions options = new(
                null, MachineKind.Sim, iommu, policy, 256UL << 20, Bounce: false, Rogue: [], Json: false);
            _pc = Pc.Boot(options, _disk, Terminal.Silent, useInterrupts: false);
            _target = _pc.Nvme.Namespaces[0];
            for (int i = 0; i < InFlight; i++) { _buffers[i] = Mdl.Allocate(_pc.Machine, ReadBytes); }
        }

        public void Run(int operations)
        {
            for (int i = 0; i < operations + InFlight; i++)
            {
                int slot = i % InFlight;
                if (i >= InFlight) { _pc.Nvme.Wait(_reads[slot]); }
                if (i >= operations) { continue; }
                ulong block = (ulong)_random.Next(_pages) << (12 - _target.BlockSizeLog2);
#pragma warning disable CA2012 // each is waited for exactly once, InFlight turns later
                _reads[slot] = _target.ReadAsync(block, _buffers[slot], 0, ReadBytes);
#pragma warning restore CA2012
            }
        }

        public void Dispose()
        {
            foreach (Mdl buffer in _buffers) { buffer.Dispose(); }
            _pc.Dispose();
            _disk.Dispose();
        }
    }
}
