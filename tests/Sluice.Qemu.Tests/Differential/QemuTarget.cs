using Sluice.Machines.Qemu;
using Sluice.Machines.Qtest;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>QEMU. Everything is posted; one step is one round trip.</summary>
internal sealed class QemuTarget : Target
{
    private const long EduDelay = 100_000_000;
    private readonly QemuMachine _machine;
    private readonly QtestClient _qtest;

    public QemuTarget(string launcher, string iommuProperties = "intremap=off", int? processor = null)
    {
        _machine = QemuMachine.Start(new()
        {
            Launcher = launcher, MemoryBytes = Layout.MemoryBytes, IommuProperties = iommuProperties,
            Processor = processor,
            Devices = [.. Enumerable.Range(0, Layout.Devices).Select(Layout.Requester).Select(Edu)],
        });
        _qtest = _machine.Qtest;
        Configure(_machine.Ports);
    }

    private static string Edu(RequesterId id) =>
        $"edu,addr={id.Device:x}.{id.Function},multifunction=on,dma_mask=0xffffffffffffffff";

    public override PhysicalMemory Memory => _machine.Memory;

    public override void Write32(uint offset, uint value) => _qtest.PostWrite32(new(UnitBase + offset), value);

    public override void Write64(uint offset, ulong value) => _qtest.PostWrite64(new(UnitBase + offset), value);

    public override void Dma(Step.Dma dma)
    {
        ulong bar = FirstBar + (ulong)dma.Device * BarStride;
        ulong buffer = EduBuffer + (ulong)dma.BufferOffset;
        _qtest.PostWrite64(new(bar + 0x80), dma.ToMemory ? buffer : dma.Address);
        _qtest.PostWrite64(new(bar + 0x88), dma.ToMemory ? dma.Address : buffer);
        _qtest.PostWrite64(new(bar + 0x90), (ulong)dma.Length);
        _qtest.PostWrite64(new(bar + 0x98), dma.ToMemory ? 3UL : 1UL);
        _qtest.PostStepClock(EduDelay);
    }

    public override ulong Read64(uint offset) => _qtest.Read64(new(UnitBase + offset));

    public override void Settle() => _qtest.Flush();

    public override void Read(Span<ulong> values)
    {
        foreach ((uint offset, int bytes, _) in Registers)
        {
            if (bytes == 8) { _qtest.PostRead64(new(UnitBase + offset)); }
            else { _qtest.PostRead32(new(UnitBase + offset)); }
        }
        _qtest.Collect(values);
    }

    public override void Dispose() => _machine.Dispose();
}
