using Sluice.Dma;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>What verification costs: get and put of one 4 KiB list, strict, held against the same without it.</summary>
internal sealed class VerifiedCase : BenchCase
{
    private const uint Bytes = 4096;
    private readonly bool _guards;
    private readonly Side _verified;
    private readonly Side _plain;

    /// <summary>Lists for the device to read, so that their bytes are hashed at both ends.</summary>
    public VerifiedCase(bool guards)
    {
        _guards = guards;
        _verified = new(VerificationMode.Log, guards);
        _plain = new(VerificationMode.Off, guards: false);
    }

    /// <inheritdoc/>
    public override string Name => NameOf(_guards);

    /// <inheritdoc/>
    public override string What => _guards
        ? "get and put of one 4 KiB list, every rule checked, the buffer copied through guarded pages"
        : "get and put of one 4 KiB list, every rule checked: overlaps, frames, MDL and bytes at both ends";

    /// <inheritdoc/>
    public override string BaselineName => "the same without verification";

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => 1000;

    /// <summary>A row's name.</summary>
    public static string NameOf(bool guards) => guards ? "get-put-4k-verified-guards" : "get-put-4k-verified";

    /// <inheritdoc/>
    public override void Run(int operations) => _verified.Run(operations);

    /// <inheritdoc/>
    public override void RunBaseline(int operations) => _plain.Run(operations);

    /// <inheritdoc/>
    public override void Dispose()
    {
        _verified.Dispose();
        _plain.Dispose();
    }

    private sealed class Side : IDisposable
    {
        private readonly Machine _machine;
        private readonly DmaSystem _dma;
        private readonly DmaAdapter _adapter;
        private readonly Mdl _buffer;

        public Side(VerificationMode mode, bool guards)
        {
            _machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 128UL << 20 });
            RogueDevice device = _machine.Plug(new RogueDevice());
            _dma = DmaSystem.Start(_machine, new()
            {
                Iommu = DmaIommu.Vtd,
                Policy = InvalidationPolicy.Strict,
                Verification = mode,
                VerificationGuards = guards,
            });
            _adapter = _dma.CreateAdapter(device.Address, new(), "bench");
            _buffer = Mdl.Allocate(_machine, Bytes);
        }

        public void Run(int operations)
        {
            for (int i = 0; i < operations; i++)
            {
                if (!_adapter.TryGetScatterGatherList(
                    _buffer, 0, Bytes, DmaDirection.ToDevice, out ScatterGatherLease list))
                {
                    throw new InvalidOperationException("no logical space");
                }
                _adapter.PutScatterGatherList(list);
            }
            if (_dma.Statistics.Violations != 0) { throw new InvalidOperationException("a rule was broken"); }
        }

        public void Dispose()
        {
            _buffer.Dispose();
            _dma.Dispose();
            _machine.Dispose();
        }
    }
}
