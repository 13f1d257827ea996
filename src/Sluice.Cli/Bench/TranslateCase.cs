using Sluice.Iommu;
using Sluice.Iommu.Vtd;

namespace Sluice.Cli.Bench;

/// <summary>Translations by the unit, held against a dictionary that knows the same pages and checks nothing.</summary>
internal sealed class TranslateCase : BenchCase
{
    private const int Pages = 64;
    private readonly bool _hits;
    private readonly UnitBench _bench;
    private readonly Dictionary<ulong, ulong> _baseline = [];

    /// <summary>Translations that hit the caches, or (with a cache of one page) never do.</summary>
    public TranslateCase(bool hits)
    {
        _hits = hits;
        _bench = new(Pages, hits ? null : new VtdOptions { IotlbSetsLog2 = 0, IotlbWays = 1 });
        foreach (LogicalAddress address in _bench.Addresses) { _baseline.Add(address.Value >> 12, address.Value); }
    }

    /// <inheritdoc/>
    public override string Name => _hits ? "translate-hit" : "translate-miss-4-level";

    /// <inheritdoc/>
    public override string What => _hits
        ? "one translation of 64 cached pages in turn: context and page cache, rights"
        : "one translation of 64 pages in turn that the page cache cannot hold: context cache, 4-level walk, fill";

    /// <inheritdoc/>
    public override double? GoalNanoseconds => _hits ? 8 : 40;

    /// <inheritdoc/>
    public override string BaselineName => "Dictionary lookup, no rights";

    /// <inheritdoc/>
    public override BenchAnchor? Anchor => _hits
        ? new("RISC-V IOMMU reference model, 2-entry IOTLB, gcc -O2", 27)
        : new("RISC-V IOMMU reference model, Sv48, gcc -O2", 134);

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => _hits ? 5 : 30;

    /// <inheritdoc/>
    public override void Run(int operations)
    {
        VtdUnit unit = _bench.Unit;
        TranslationPort port = _bench.Port;
        SourceId source = _bench.Device.Address;
        LogicalAddress[] addresses = _bench.Addresses;
        port.Enter();
        for (int i = 0; i < operations; i++)
        {
            if (!unit.TryTranslate(port, new(source, addresses[i & (Pages - 1)], DmaAccess.Read), out _))
            {
                throw new InvalidOperationException();
            }
        }
        port.Exit();
    }

    /// <inheritdoc/>
    public override void RunBaseline(int operations)
    {
        LogicalAddress[] addresses = _bench.Addresses;
        for (int i = 0; i < operations; i++)
        {
            if (!_baseline.TryGetValue(addresses[i & (Pages - 1)].Value >> 12, out _))
            {
                throw new InvalidOperationException();
            }
        }
    }

    /// <inheritdoc/>
    public override void Dispose() => _bench.Dispose();
}
