using Sluice.Formats.Acpi;
using Sluice.Iommu;
using Sluice.Iommu.Vtd;
using Sluice.Remapping.Vtd;

namespace Sluice.Remapping.Tests;

/// <summary>
/// A machine of one VT-d unit, 32 MiB below 4 GiB and 16 MiB above, for tests of the operating-system side. Nothing
/// runs by itself: interrupts wait for <see cref="RunInterrupts"/>, timers for <see cref="TestClock.Advance"/>.
/// </summary>
internal sealed class TestPlatform : IPlatform, IInterruptSink, IDisposable
{
    public const ulong LowBytes = 32 << 20;
    public const ulong HighFirst = 1UL << 32;
    public const ulong HighBytes = 16 << 20;
    public static readonly LogicalRange Interrupts = new(new(0xFEE0_0000), new(0xFEEF_FFFF));
    public static readonly PhysicalAddress UnitRegisters = new(0xFED9_0000);

    public static readonly PhysicalAddress SecondRegisters = new(0xFED9_1000);

    private readonly NativeBlock _block = NativeBlock.Allocate(LowBytes + HighBytes);
    private readonly MemoryBanks _banks;
    private readonly List<TestInterrupt> _lines = [];
    private readonly TranslationPort _port;

    public TestPlatform(VtdOptions? options = null, int seed = 1, VtdOptions? second = null)
    {
        _banks = new(new MemoryBank(default, _block, 0, LowBytes),
            new MemoryBank(new(HighFirst), _block, LowBytes, HighBytes));
        Memory = _banks.Memory;
        TestFrames = new(Memory, LowBytes, HighFirst, HighBytes, seed);
        Unit = new(options ?? new VtdOptions(), Memory, this);
        Second = new(second ?? options ?? new VtdOptions(), Memory, this);
        Registers = new(Unit.Registers);
        _port = Unit.Connect("test");
    }

    public VtdUnit Unit { get; }

    /// <summary>A second unit, for tests whose firmware names it at <see cref="SecondRegisters"/>.</summary>
    public VtdUnit Second { get; }

    /// <summary>The unit's registers as the operating-system side sees them.</summary>
    public TestRegisters Registers { get; }

    public TestClock TestClock { get; } = new();

    public TestFrames TestFrames { get; }

    public PhysicalMemory Memory { get; }

    public IFrameAllocator Frames => TestFrames;

    /// <summary>Instead of <see cref="TestClock"/>, for tests of what happens at once.</summary>
    public IPlatformClock? RealClock { get; init; }

    public IPlatformClock Clock => RealClock ?? TestClock;

    public TestPorts TestPorts { get; init; } = new();

    public PhysicalAddress? FirmwareTables { get; init; }

    /// <summary>Registers that are no unit's, by address.</summary>
    public Dictionary<PhysicalAddress, RegisterWindow> Others { get; } = [];

    public IPciConfiguration? Pci => FirmwarePci.Find(this, TestPorts);

    public LogicalRange? InterruptWindow { get; init; } = Interrupts;

    public IReadOnlyList<LogicalRange> BusWindows { get; init; } = [new(new(0xE000_0000), new(0xEFFF_FFFF))];

    /// <summary>Interrupt lines that are connected.</summary>
    public int Lines => _lines.Count;

    /// <summary>Called after a line was disconnected; may throw, as where its handler does not end.</summary>
    public Action? OnDisconnect { get; set; }

    /// <summary>Interrupt messages that arrived at no line.</summary>
    public int Strays { get; private set; }

    /// <summary>What the firmware says; by default one unit for everything and no regions.</summary>
    public FirmwareDescription Firmware { get; init; } = Describe();

    public static FirmwareDescription Describe(params FirmwareRegion[] regions) =>
        new(48, [new VtdUnitDescription(UnitRegisters, 0, IncludesAll: true, [])], regions);

    public RegisterWindow MapRegisters(PhysicalAddress first, uint length)
    {
        RegisterWindow? found = first == UnitRegisters ? Registers : first == SecondRegisters ? Second.Registers
            : Others.GetValueOrDefault(first);
        return found is not null && length <= found.Length
            ? found
            : throw new ArgumentOutOfRangeException(nameof(first), $"no device answers at {first} for {length} bytes");
    }

    public IInterruptLine ConnectInterrupt(string name, Action handler)
    {
        TestInterrupt line = new(this, (byte)(0x30 + _lines.Count), handler);
        _lines.Add(line);
        return line;
    }

    public void Deliver(MsiMessage message)
    {
        foreach (TestInterrupt line in _lines)
        {
            if (line.Message == message)
            {
                line.IsPending = true;
                return;
            }
        }
        Strays++;
    }

    /// <summary>Runs handlers until none is pending; bounded.</summary>
    public void RunInterrupts(bool once = false)
    {
        for (int turn = 0; turn < 1_000; turn++)
        {
            TestInterrupt? line = _lines.Find(static other => other.IsPending);
            if (line is null) { return; }
            line.IsPending = false;
            line.Handler();
            if (once) { return; }
        }
        Assert.Fail("interrupts never end");
    }

    public RemappingSystem Start(IFaultSink? faults = null, RemappingOptions? options = null,
        IPhysicalMemory? tableMemory = null) =>
        RemappingSystem.Start(
            this, tableMemory ?? Memory, options ?? new RemappingOptions { WaitNanoseconds = 1_000_000 },
            faults ?? new FaultList(), Firmware);

    public PhysicalAddress[] Buffers(int count)
    {
        PhysicalAddress[] pages = new PhysicalAddress[count];
        for (int i = 0; i < count; i++) { Assert.True(Frames.TryAllocate(FrameKind.Buffer, 12, out pages[i])); }
        return pages;
    }

    /// <summary>What one DMA of <paramref name="device"/> reaches, or null when it is refused.</summary>
    public PhysicalAddress? Reach(PciAddress device, LogicalAddress address, DmaAccess access)
    {
        _port.Enter();
        try
        {
            return Unit.TryTranslate(_port, new(device, address, access), out PhysicalRun run) ? run.First : null;
        }
        finally
        {
            _port.Exit();
        }
    }

    public void Dispose() => _banks.Dispose();

    private sealed class TestInterrupt(TestPlatform platform, byte vector, Action handler) : IInterruptLine
    {
        public MsiMessage Message => new(new(0xFEE0_0000), vector);

        public Action Handler => handler;

        public bool IsPending { get; set; }

        public void Dispose()
        {
            platform._lines.Remove(this);
            platform.OnDisconnect?.Invoke();
        }
    }
}
