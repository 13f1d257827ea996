using Sluice.Dma;
using Sluice.Iommu;
using Sluice.Iommu.Vtd;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>
/// One refused DMA from its record to its report, held against the refused DMA alone: a write to a list that was put,
/// with a full history to find it in.
/// </summary>
internal sealed class FaultCase : BenchCase
{
    /// <summary>Bytes a fault may allocate: the report and what hangs on it.</summary>
    public const long MostBytes = 2 << 10;

    private const int Lists = 1_200;
    private const int RestAfter = 1 << 16;

    private readonly Machine _machine = Machine.Create(
        new() { Iommu = MachineIommu.Vtd, Vtd = new VtdOptions(), MemoryBytes = 64UL << 20, Deterministic = true });
    private readonly DmaSystem _dma;
    private readonly DmaAdapter _adapter;
    private readonly Mdl _buffer;
    private readonly PciAddress _device;
    private readonly TranslationPort _port;
    private readonly LogicalAddress _target;
    private long _reports;
    private int _untilRest = RestAfter;

    /// <summary>Builds the machine and the history.</summary>
    public FaultCase()
    {
        RogueDevice rogue = _machine.Plug(new RogueDevice());
        _device = rogue.Address;
        _port = _machine.Unit!.Connect("bench");
        // No storm: it is to be explained each time.
        RemappingOptions patient = new() { FaultBurst = 1 << 20, FaultsPerSecond = 1 << 20 };
        _dma = DmaSystem.Start(_machine, new()
        {
            Iommu = DmaIommu.Vtd, Remapping = patient, Verification = VerificationMode.Off,
        });
        _adapter = _dma.CreateAdapter(rogue.Address, new(), "bench");
        _buffer = Mdl.Allocate(_machine, 4096);
        _dma.Reported += report => _reports += report.Kind == DmaReportKind.AfterUnmap ? 1 : 0;
        for (int i = 0; i < Lists; i++)
        {
            _adapter.TryGetScatterGatherList(_buffer, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease list);
            _target = list[0].Address;
            _adapter.PutScatterGatherList(list);
        }
    }

    /// <inheritdoc/>
    public override string Name => "fault";

    /// <inheritdoc/>
    public override string What =>
        "one refused DMA, from its record to its report, found among 1,024 mappings that were given back";

    /// <inheritdoc/>
    public override double? GoalNanoseconds => 5_000;

    /// <inheritdoc/>
    public override long? GoalBytes => MostBytes;

    /// <inheritdoc/>
    public override string BaselineName => "the refused DMA, its record freed unread";

    // Loops over a thousand mappings: the compiler needs longer to look at them than at a call.
    /// <inheritdoc/>
    public override TimeSpan WarmUp => TimeSpan.FromSeconds(2);

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => 2_000;

    /// <inheritdoc/>
    public override void Run(int operations)
    {
        long before = _reports;
        for (int i = 0; i < operations; i++)
        {
            Refuse();
            _dma.DrainFaults();
            if (--_untilRest == 0) { Rest(); }
        }
        if (_reports - before != operations) { throw new InvalidOperationException("a fault was not explained"); }
    }

    /// <inheritdoc/>
    public override void RunBaseline(int operations)
    {
        RegisterWindow registers = _machine.Unit!.Registers;
        uint first = _machine.Unit.Options.FaultRecordOffset;
        for (int i = 0; i < operations; i++)
        {
            Refuse();
            for (int slot = 0; slot < _machine.Unit.Options.FaultRecords; slot++)
            {
                registers.Write32(first + (uint)slot * 16 + 12, 1u << 31);
            }
        }
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        _adapter.Dispose();
        _buffer.Dispose();
        _dma.Dispose();
        _machine.Dispose();
    }

    private void Refuse()
    {
        _port.Enter();
        bool passed = _machine.Unit!.TryTranslate(_port, new(_device, _target, DmaAccess.Write), out _);
        _port.Exit();
        if (passed) { throw new InvalidOperationException("the DMA was not refused"); }
    }

    // So much time for so many faults, or the device would be silenced as a storm.
    private void Rest()
    {
        _untilRest = RestAfter;
        IPlatformClock clock = _machine.Clock;
        long end = clock.Nanoseconds + 1_000_000_000L * RestAfter / (1 << 20);
        _machine.RunUntil(() => clock.Nanoseconds >= end);
    }
}
