using Sluice.Iommu.Vtd;
using FirmwarePci = Sluice.Formats.Acpi.FirmwarePci;

namespace Sluice.Machines;

/// <summary>
/// A PC in this process, on QEMU's q35 map: memory, PCI, ACPI tables, a remapping unit, and devices that run on threads
/// of their own or all on one seeded scheduler. Operating-system code sees it as <see cref="IPlatform"/> and nothing
/// more.
/// </summary>
/// <remarks>
/// Safe from any thread, except <see cref="Dispose"/>, after which nothing of the machine may be used.
/// </remarks>
public sealed partial class Machine : IPlatform, IDisposable
{
    private readonly MemoryBanks _banks;
    private readonly PciHost _pci = new();
    private readonly RootComplex _root;
    private readonly Lazy<IPciConfiguration> _configuration;
    private readonly Lock _plugging = new();
    private bool _disposed;

    private Machine(MachineOptions options)
    {
        Options = options;
        _configuration = new(() => FirmwarePci.Find(this, Ports)!);
        _banks = BuildMemory(options);
        Memory = _banks.Memory;
        ulong seed = SplitMix.Mix((ulong)(uint)options.Seed);
        Execution = options.Deterministic
            ? new SeededExecution(seed, options.NanosecondsPerStep)
            : new ThreadedExecution(options.IdleSpin);
        try
        {
            PhysicalRange acpi = AcpiArea(options);
            ulong low = MachineMap.LowMemory(options.MemoryBytes);
            PhysicalRange[] reserved = [acpi, .. options.ReservedRegions.Select(static r => r.Range)];
            Frames = new FrameAllocator(Memory, low, options.MemoryBytes - low, seed, reserved);
            Kernel = new(Memory, Frames, seed);
            Execution.BeforeTimer = () => _ = Kernel.Call(KernelCall.Timer);
            Interrupts = new(Execution, Kernel, InterruptWindow);
            Unit = options.Iommu == MachineIommu.Vtd ? BuildUnit(options) : null;
            _root = new(Memory, Unit, Interrupts, InterruptWindow);
            AcpiTables.Write(Memory, acpi, options, Unit?.Registers.Length ?? 0);
            Plug(new HostBridge(_pci), PciAddress.From(0, 0, 0));
            Plug(new LpcBridge(), PciAddress.From(0, 0x1F, 0));
            _pci.ResetRequested = () =>
            {
                Reset();
                ResetByPort?.Invoke();
            };
        }
        catch
        {
            Execution.Dispose();
            _banks.Dispose();
            throw;
        }
    }

    /// <summary>How it was built.</summary>
    public MachineOptions Options { get; }

    /// <inheritdoc/>
    public PhysicalMemory Memory { get; }

    /// <inheritdoc/>
    public IFrameAllocator Frames { get; }

    /// <inheritdoc/>
    public IPlatformClock Clock => Execution;

    /// <summary>The port space.</summary>
    public IPortIo Ports => _pci;

    /// <summary>
    /// As a PC's: in memory where its tables say so, else by ports. Found when it is first asked for.
    /// </summary>
    public IPciConfiguration Pci => _configuration.Value;

    /// <inheritdoc/>
    public PhysicalRange? BarWindow => MachineMap.BarWindow;

    /// <inheritdoc/>
    public LogicalRange? InterruptWindow => Options.InterruptWindow;

    /// <summary>ECAM, the BAR window, and the chipset's area with the interrupt window.</summary>
    public IReadOnlyList<LogicalRange> BusWindows { get; } =
    [
        new(new(MachineMap.Ecam.First.Value), new(MachineMap.Ecam.Last.Value)),
        new(new(MachineMap.BarWindow.First.Value), new(MachineMap.BarWindow.Last.Value)),
        new(new(MachineMap.BarWindow.Last.Value + 1), new(0xFEFF_FFFF)),
    ];

    /// <summary>Kernel code and tables.</summary>
    public KernelArea Kernel { get; }

    /// <summary>Interrupt latches, counters and fault injection.</summary>
    public InterruptController Interrupts { get; }

    /// <summary>
    /// The remapping unit, for its statistics and for tests; operating-system code finds it through the DMAR table.
    /// </summary>
    public VtdUnit? Unit { get; }

    /// <summary>The functions plugged in.</summary>
    public IReadOnlyList<PciDevice> Functions => [.. _pci.Functions];

    /// <summary>
    /// What device models, interrupt handlers and timers threw: programming errors, none of which stops the machine.
    /// </summary>
    public IReadOnlyCollection<Exception> Failures => Execution.Failures;

    /// <summary>
    /// A hash of everything that happened, in order, on a deterministic machine; 0 on a threaded one.
    /// </summary>
    public ulong TraceHash => (Execution as SeededExecution)?.TraceHash ?? 0;

    /// <summary>Told after a system reset that software asked for by port, on its thread.</summary>
    internal Action? ResetByPort { get; set; }

    internal Execution Execution { get; }

    internal InterruptWires Wires { get; } = new();

    /// <summary>Builds a machine and starts it.</summary>
    /// <exception cref="MachineException">The options do not make a machine.</exception>
    public static Machine Create(MachineOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        Validate(options);
        return new(options);
    }

    /// <summary>Plugs a device in: its thread runs and software can find it from now on.</summary>
    /// <exception cref="MachineException">The slot is taken, or no bridge leads to its bus.</exception>
    public T Plug<T>(T device, PciAddress address)
        where T : PciDevice
    {
        ArgumentNullException.ThrowIfNull(device);
        lock (_plugging)
        {
            byte bus = address.Requester.Bus;
            PciBridge? bridge = _pci.BridgeTo(bus);
            if (address.Segment != 0 || (bus != 0 && bridge is null))
            {
                throw new MachineException(
                    $"{device.Name} cannot be plugged in at {address}: no bridge leads to that bus");
            }
            if (device is PciBridge { SecondaryBus: var behind }
                && (behind <= bus || _pci.BridgeTo(behind) is not null))
            {
                throw new MachineException(
                    $"{device.Name} cannot be plugged in at {address}: bus {behind} is not free behind bus {bus}");
            }
            if (_pci[address.Requester] is { } there)
            {
                throw new MachineException($"{device.Name} cannot be plugged in at {address}: {there.Name} is there");
            }
            device.PlugInto(this, _root, address, bridge);
            if (device is PciBridge inner)
            {
                for (; bridge is not null; bridge = _pci.BridgeTo(bridge.Address.Requester.Bus))
                {
                    bridge.Cover(inner.SecondaryBus);
                }
            }
            _pci.Add(device);
        }
        return device;
    }

    /// <summary>Plugs a device into the first free slot from 00:03.0 up.</summary>
    /// <exception cref="MachineException">All slots are taken.</exception>
    public T Plug<T>(T device)
        where T : PciDevice
    {
        ArgumentNullException.ThrowIfNull(device);
        lock (_plugging)
        {
            for (int slot = 3; slot < 0x1F; slot++)
            {
                if (_pci[RequesterId.From(0, slot, 0)] is null) { return Plug(device, PciAddress.From(0, slot, 0)); }
            }
        }
        throw new MachineException($"too many devices: no slot is left for {device.Name}");
    }

    /// <inheritdoc/>
    public RegisterWindow MapRegisters(PhysicalAddress first, uint length)
    {
        if (length != 0 && FindRegisters(first, length) is { Registers: { } window } part && part.Length == length)
        {
            return window;
        }
        throw new ArgumentOutOfRangeException(nameof(first), $"no device answers at {first} for {length} bytes");
    }

    /// <summary>
    /// A system reset, as by port 0xCF9: every function and the remapping unit are as after power-on, and ECAM is where
    /// firmware puts it. Memory, time, and interrupts that are latched already stay. What software has in memory,
    /// tables and queues, nobody looks at any more. From any thread; devices are reset one after the other.
    /// </summary>
    /// <remarks>
    /// Waits for the step that each device's thread is in. What a device began before does no DMA past the end of the
    /// call, unless it ignores its bus master enable; and none of it passes a unit that translates no more.
    /// </remarks>
    /// <exception cref="TimeoutException">A device was in one step for ten seconds: its unit goes on translating.
    /// </exception>
    /// <exception cref="InvalidOperationException">A DMA did not end: the unit goes on translating.</exception>
    public void Reset()
    {
        // The unit last: until a device is reset its DMA passes the unit as before.
        PciDevice[] devices = _pci.Functions;
        foreach (PciDevice device in devices) { device.ResetFunction(); }
        foreach (PciDevice device in devices) { device.WaitForStep(); }
        Unit?.Reset();
    }

    /// <inheritdoc/>
    public IInterruptLine ConnectInterrupt(string name, Action handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        return Interrupts.Connect(name, handler);
    }

    /// <summary>
    /// Adds work of the test's own to the machine's agents: on a deterministic machine it is interleaved with them.
    /// </summary>
    /// <param name="name">For messages.</param>
    /// <param name="step">One bounded piece of work; false when there is none until it is woken.</param>
    /// <returns>Wakes it.</returns>
    public Action AddAgent(string name, Func<bool> step) => Execution.AddAgent(name, step).Wake;

    /// <summary>
    /// Lets the machine run until <paramref name="condition"/> holds or <paramref name="maximumSteps"/> turns have
    /// passed: scheduler steps on a deterministic machine, polls on a threaded one.
    /// </summary>
    /// <returns>Whether the condition held.</returns>
    public bool RunUntil(Func<bool> condition, long maximumSteps = 10_000_000)
    {
        ArgumentNullException.ThrowIfNull(condition);
        for (long i = 0; i < maximumSteps; i++)
        {
            if (condition()) { return true; }
            Clock.Relax();
        }
        return condition();
    }

    /// <summary>
    /// Stops the threads, then frees the memory. A thread that does not stop in ten seconds keeps the memory.
    /// </summary>
    /// <exception cref="TimeoutException">A device model, an interrupt handler or a timer does not stop.</exception>
    public void Dispose()
    {
        if (_disposed) { return; }
        _disposed = true;
        Execution.Dispose();
        foreach (PciDevice device in _pci.Functions) { (device as IDisposable)?.Dispose(); }
        _banks.Dispose();
    }
}
