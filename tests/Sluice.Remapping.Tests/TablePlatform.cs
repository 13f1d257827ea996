using Sluice.Formats.Acpi;
using Sluice.Iommu;
using Sluice.Iommu.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>
/// A machine built from a DMAR table: a unit at every address that the table names, a bridge wherever it names one.
/// </summary>
internal sealed class TablePlatform : IPlatform, IDisposable
{
    private readonly TestPlatform _inner = new();
    private readonly List<(PhysicalAddress At, VtdUnit Unit, TranslationPort Port)> _units = [];

    public TablePlatform(byte[] dmar, VtdOptions? options = null)
    {
        foreach (NaiveStructure one in NaiveStructure.Of(dmar))
        {
            if (one.Type == 0)
            {
                VtdUnit unit = new((options ?? new()) with { HostAddressBits = dmar[36] + 1 }, Memory, _inner);
                _units.Add((new(one.U64(8)), unit, unit.Connect("test")));
            }
            foreach ((int type, _, _, int bus, byte[] path) in one.Scopes)
            {
                if (type != 2 || Bridges.Any(bridge => bridge.Bus == bus && bridge.Path.SequenceEqual(path))) { continue; }
                Bridges.Add((bus, path));
                int behind = bus + Bridges.Count;
                _inner.TestPorts.AddBridge(bus, path[0], path[1], (byte)behind, (byte)behind);
            }
        }
        TestFirmware.Write(Memory, dmar);
    }

    public List<(int Bus, byte[] Path)> Bridges { get; } = [];

    public PhysicalMemory Memory => _inner.Memory;

    public IFrameAllocator Frames => _inner.Frames;

    public IPlatformClock Clock => _inner.Clock;

    public IPciConfiguration? Pci => FirmwarePci.Find(this, _inner.TestPorts);

    public LogicalRange? InterruptWindow => _inner.InterruptWindow;

    public IReadOnlyList<LogicalRange> BusWindows => [];

    public RegisterWindow MapRegisters(PhysicalAddress first, uint length)
    {
        foreach ((PhysicalAddress at, VtdUnit unit, _) in _units)
        {
            if (at == first && length <= unit.Registers.Length) { return new TestRegisters(unit.Registers, length); }
        }
        throw new ArgumentOutOfRangeException(nameof(first), $"nothing answers at {first}");
    }

    public IInterruptLine ConnectInterrupt(string name, Action handler) => _inner.ConnectInterrupt(name, handler);

    /// <summary>Runs handlers until none is pending.</summary>
    public void RunInterrupts() => _inner.RunInterrupts();

    /// <summary>The buffers of the platform below.</summary>
    public PhysicalAddress[] Buffers(int count) => _inner.Buffers(count);

    /// <summary>
    /// The bus behind the bridge at the end of a path; 0 when there is none.
    /// </summary>
    public int BusBehind(int bus, byte[] path)
    {
        int index = Bridges.FindIndex(bridge => bridge.Bus == bus && bridge.Path.SequenceEqual(path));
        return index < 0 ? 0 : bus + index + 1;
    }

    /// <summary>What one DMA below one unit reaches; null when it is refused.</summary>
    public PhysicalAddress? Reach(PhysicalAddress unit, RequesterId device, LogicalAddress address, DmaAccess access)
    {
        (_, VtdUnit below, TranslationPort port) = _units.Find(one => one.At == unit);
        port.Enter();
        try
        {
            DmaRequest request = new(new PciAddress(0, device), address, access);
            return below.TryTranslate(port, request, out PhysicalRun run) ? run.First : null;
        }
        finally
        {
            port.Exit();
        }
    }

    public void Dispose() => _inner.Dispose();
}
