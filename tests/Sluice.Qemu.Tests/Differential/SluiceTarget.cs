using Sluice.Iommu.Vtd;
using Sluice.Machines;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>Our machine with our silicon, in this process, on one thread.</summary>
internal sealed class SluiceTarget : Target
{
    private readonly Machine _machine;
    private readonly RegisterWindow _unit;
    private readonly RegisterWindow[] _edu;

    public SluiceTarget(VtdOptions options)
    {
        _machine = Machine.Create(new()
        {
            MemoryBytes = Layout.MemoryBytes, Iommu = MachineIommu.Vtd, Vtd = options, Deterministic = true,
        });
        for (int device = 0; device < Layout.Devices; device++)
        {
            _machine.Plug(new EduModel(new() { DmaMask = ulong.MaxValue, DmaDelayNanoseconds = 0 }),
                new(0, Layout.Requester(device)));
        }
        Configure(_machine.Ports);
        _unit = _machine.MapRegisters(new(UnitBase), 0x1000);
        _edu = [.. Enumerable.Range(0, Layout.Devices)
            .Select(device => _machine.MapRegisters(new(FirstBar + (ulong)device * BarStride), 0x1000))];
    }

    public VtdUnit Unit => _machine.Unit!;

    public override PhysicalMemory Memory => _machine.Memory;

    public override void Write32(uint offset, uint value) => _unit.Write32(offset, value);

    public override void Write64(uint offset, ulong value) => _unit.Write64(offset, value);

    public override void Dma(Step.Dma dma)
    {
        RegisterWindow edu = _edu[dma.Device];
        ulong buffer = EduBuffer + (ulong)dma.BufferOffset;
        edu.Write64(0x80, dma.ToMemory ? buffer : dma.Address);
        edu.Write64(0x88, dma.ToMemory ? dma.Address : buffer);
        edu.Write64(0x90, (ulong)dma.Length);
        edu.Write64(0x98, dma.ToMemory ? 3UL : 1UL);
        if (!_machine.RunUntil(() => (edu.Read64(0x98) & 1) == 0, 10_000))
        {
            throw new InvalidOperationException("edu never ends its DMA");
        }
    }

    public override ulong Read64(uint offset) => _unit.Read64(offset);

    public override void Settle()
    {
    }

    public override void Read(Span<ulong> values)
    {
        if (_machine.Failures.Count != 0) { throw new InvalidOperationException(_machine.Failures.First().Message); }
        for (int i = 0; i < Registers.Length; i++)
        {
            values[i] = Registers[i].Bytes == 8 ? _unit.Read64(Registers[i].Offset) : _unit.Read32(Registers[i].Offset);
        }
    }

    public override void Dispose() => _machine.Dispose();
}
