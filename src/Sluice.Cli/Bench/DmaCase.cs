using Sluice.Machines;

namespace Sluice.Cli.Bench;

/// <summary>
/// 4 KiB from a device into memory through the unit, held against copying the same bytes to the same pages.
/// </summary>
internal sealed class DmaCase : BenchCase
{
    private const int PageBytes = 4096;

    // 512 pages are 2 MiB: beyond the first-level cache, as transfers are.
    private const int Pages = 512;
    private readonly UnitBench _bench = new(Pages);
    private readonly byte[] _data = new byte[PageBytes];
    private readonly PhysicalAddress[] _frames;

    /// <summary>Builds the machine.</summary>
    public DmaCase()
    {
        new Random(1).NextBytes(_data);
        _frames = new PhysicalAddress[Pages];
        _bench.Port.Enter();
        for (int i = 0; i < Pages; i++)
        {
            _bench.Unit.TryTranslate(
                _bench.Port, new(_bench.Device.Address, _bench.Addresses[i], DmaAccess.Write),
                out Iommu.PhysicalRun run);
            _frames[i] = run.First;
        }
        _bench.Port.Exit();
    }

    /// <inheritdoc/>
    public override string Name => "dma-4k";

    /// <inheritdoc/>
    public override string What =>
        "one 4 KiB device write through the unit: in flight, translation, copy, out of flight";

    /// <inheritdoc/>
    public override double? GoalRatio => 0.85;

    /// <inheritdoc/>
    public override string BaselineName => "memcpy of the same pages";

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => 80;

    /// <inheritdoc/>
    public override void Run(int operations)
    {
        DmaPort port = _bench.Device.Port;
        for (int i = 0; i < operations; i++)
        {
            if (port.Write(_bench.Addresses[i & (Pages - 1)], _data) != DmaStatus.Completed)
            {
                throw new InvalidOperationException();
            }
        }
    }

    /// <inheritdoc/>
    public override void RunBaseline(int operations)
    {
        PhysicalMemory memory = _bench.Machine.Memory;
        for (int i = 0; i < operations; i++)
        {
            if (!memory.TryWrite(_frames[i & (Pages - 1)], _data)) { throw new InvalidOperationException(); }
        }
    }

    /// <inheritdoc/>
    public override void Dispose() => _bench.Dispose();
}
