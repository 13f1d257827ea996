using System.Diagnostics;
using Sluice.Dma;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>
/// Get and put of one 4 KiB list through pages that stay mapped, held against mapping it; and a table over lengths,
/// which says up to where the copy is cheaper.
/// </summary>
/// <remarks>
/// Data goes from the device, the dearer way: the page begins as a copy of the buffer, and is copied back. Buffers take
/// turns, so that they come from the second-level cache and not from the first. What the device's own misses in the
/// IOTLB cost after a mapping is not in it: it would speak for copying.
/// </remarks>
internal sealed class CopyOrMapCase : BenchCase
{
    /// <summary>The row's name.</summary>
    public const string RowName = "copy-or-map";

    private const int Samples = 15;
    private const double SampleNanoseconds = 400_000;
    private static readonly uint[] Lengths =
        [64, 256, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];

    private readonly Side _copy = new(InvalidationPolicy.Strict, threshold: Lengths[^1]);
    private readonly Side _strict = new(InvalidationPolicy.Strict, threshold: 0);
    private readonly Side _deferred = new(InvalidationPolicy.Deferred, threshold: 0);

    /// <inheritdoc/>
    public override string Name => RowName;

    /// <inheritdoc/>
    public override string What => "get and put of one 4 KiB list, copied through pages that stay mapped";

    /// <inheritdoc/>
    public override string BaselineName => "mapping it, strict";

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => 400;

    /// <inheritdoc/>
    public override void Run(int operations) => _copy.Run(4096, operations);

    /// <inheritdoc/>
    public override void RunBaseline(int operations) => _strict.Run(4096, operations);

    /// <summary>The table: medians of turns that alternate.</summary>
    public override BenchCopyOrMap MeasureMore()
    {
        List<BenchCopyOrMapLine> lines = [];
        foreach (uint length in Lengths)
        {
            double[][] times = [new double[Samples], new double[Samples], new double[Samples]];
            Side[] sides = [_copy, _strict, _deferred];
            int operations = (int)Math.Max(16, SampleNanoseconds / (200 + length / 20.0));
            for (int i = -3; i < Samples; i++)
            {
                for (int side = 0; side < sides.Length; side++)
                {
                    long start = Stopwatch.GetTimestamp();
                    sides[side].Run(length, operations);
                    if (i >= 0) { times[side][i] = Stopwatch.GetElapsedTime(start).TotalNanoseconds / operations; }
                }
            }
            foreach (double[] each in times) { Array.Sort(each); }
            lines.Add(new(length, Median(times[0]), Median(times[1]), Median(times[2])));
        }
        return new(lines, BreakEven(lines, static l => l.MapStrictNs), BreakEven(lines, static l => l.MapDeferredNs));
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _copy.Dispose();
        _strict.Dispose();
        _deferred.Dispose();
    }

    /// <summary>
    /// Up to how many bytes a copy costs no more, between the measured lengths by a straight line; 0 when mapping is
    /// always cheaper.
    /// </summary>
    internal static uint BreakEven(IReadOnlyList<BenchCopyOrMapLine> lines, Func<BenchCopyOrMapLine, double> map)
    {
        uint from = 0;
        double ahead = 0;
        foreach (BenchCopyOrMapLine line in lines)
        {
            double saved = map(line) - line.CopyNs;
            if (saved < 0) { return from == 0 ? 0 : from + (uint)((line.Bytes - from) * ahead / (ahead - saved)); }
            (from, ahead) = (line.Bytes, saved);
        }
        return from;
    }

    private static double Median(double[] sorted) => Math.Round(sorted[sorted.Length / 2], 1);

    private sealed class Side : IDisposable
    {
        private const int Buffers = 16;
        private readonly Machine _machine;
        private readonly DmaSystem _dma;
        private readonly DmaAdapter _adapter;
        private readonly Mdl[] _buffers;

        public Side(InvalidationPolicy policy, uint threshold)
        {
            _machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 128UL << 20 });
            RogueDevice device = _machine.Plug(new RogueDevice());
            _dma = DmaSystem.Start(_machine, new()
            {
                Iommu = DmaIommu.Vtd, Policy = policy, CopyThreshold = threshold,
                Shadow = new() { LargestSlotLog2 = 6, MaximumPages = 1024 },
            });
            _adapter = _dma.CreateAdapter(device.Address, new(), "bench");
            _buffers = [.. Enumerable.Range(0, Buffers).Select(_ => Mdl.Allocate(_machine, Lengths[^1]))];
        }

        public void Run(uint length, int operations)
        {
            for (int i = 0; i < operations; i++)
            {
                if (!_adapter.TryGetScatterGatherList(
                    _buffers[i % Buffers], 0, length, DmaDirection.FromDevice, out ScatterGatherLease list))
                {
                    throw new InvalidOperationException("no logical space");
                }
                _adapter.PutScatterGatherList(list);
            }
        }

        public void Dispose()
        {
            foreach (Mdl buffer in _buffers) { buffer.Dispose(); }
            _dma.Dispose();
            _machine.Dispose();
        }
    }
}
