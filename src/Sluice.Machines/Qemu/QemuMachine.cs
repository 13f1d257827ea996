using System.Diagnostics;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Sluice.Formats.Acpi;
using Sluice.Machines.Qtest;

namespace Sluice.Machines.Qemu;

/// <summary>
/// QEMU's q35 machine as a platform: its memory mapped into this process, its registers, ports and clock over qtest, no
/// firmware and no processor but us. Operating-system code, the DMA interface and the drivers run on it unchanged.
/// </summary>
/// <remarks>
/// <para>
/// Interrupts are polled. A device's message goes to QEMU's own interrupt controller, which qtest cannot look into, so
/// every connected handler is called over and over: without pause while somebody writes registers and for a moment
/// after, every few milliseconds otherwise. Handlers must bear being called for nothing, as they must on any shared
/// line.
/// </para>
/// <para>Safe from any thread, except <see cref="Dispose"/>. When QEMU dies or hangs, the next register access says so
/// (<see cref="QtestException"/>).</para>
/// </remarks>
public sealed class QemuMachine : IPlatform, IDisposable
{
    private const ulong FirmwareBytes = 1 << 20;

    // QEMU's usual processor has 40 address bits. HyperTransport takes the last 12 GiB of what they reach, the
    // 64-bit PCI window 32 GiB below those, and 2 GiB of memory lie below 4 GiB.
    private const ulong MostMemory = 978UL << 30;
    private const long IdlePollNanoseconds = 5_000_000;
    private static readonly TimeSpan ActiveFor = TimeSpan.FromMilliseconds(20);

    private readonly QemuProcess _process;
    private readonly MemoryBanks _banks;
    private readonly ThreadedExecution _execution;
    private readonly InterruptController _interrupts;
    private readonly QemuClock _clock;
    private readonly Agent _poller;
    private readonly IDisposable _idlePoll;
    private readonly Lock _connecting = new();
    private IInterruptLine[] _lines = [];
    private long _lastWrite;
    private bool _disposed;

    private QemuMachine(QemuMachineOptions options, QemuProcess process, MemoryBanks banks)
    {
        (Options, _process, _banks) = (options, process, banks);
        Memory = banks.Memory;
        Ports = new QemuPorts(Qtest);
        ulong low = MachineMap.LowMemory(options.MemoryBytes);
        var firmware = PhysicalRange.FromLength(new(low - FirmwareBytes), FirmwareBytes);
        new QemuFirmware(Memory, Ports, firmware).Run();
        Pci = FirmwarePci.Find(this, Ports)!;
        ulong seed = SplitMix.Mix((ulong)(uint)options.Seed);
        Frames = new FrameAllocator(Memory, low, options.MemoryBytes - low, seed, [firmware]);
        _execution = new(TimeSpan.Zero);
        _clock = new(Qtest, _execution, options.NanosecondsPerRelax);
        Kernel = new(Memory, Frames, seed);
        _interrupts = new(_execution, Kernel, InterruptWindow);
        _poller = _execution.AddAgent("poller", Poll);
        _idlePoll = _execution.StartTimer("poller", IdlePollNanoseconds, _poller.Wake);
    }

    /// <summary>How it was started.</summary>
    public QemuMachineOptions Options { get; }

    /// <summary>The connection, for what a platform has no words for. It is the machine's; do not dispose it.</summary>
    public QtestClient Qtest => _process.Client;

    /// <inheritdoc/>
    public PhysicalMemory Memory { get; }

    /// <inheritdoc/>
    public IFrameAllocator Frames { get; }

    /// <inheritdoc/>
    public IPlatformClock Clock => _clock;

    /// <summary>The port space.</summary>
    public IPortIo Ports { get; }

    /// <summary>As a PC's: in memory where its tables say so, else by ports.</summary>
    public IPciConfiguration Pci { get; }

    /// <inheritdoc/>
    public PhysicalRange? BarWindow => MachineMap.BarWindow;

    /// <summary>Kernel code and tables: what a rogue device aims at.</summary>
    public KernelArea Kernel { get; }

    /// <summary>What interrupt handlers and timers threw: programming errors, or QEMU's death.</summary>
    public IReadOnlyCollection<Exception> Failures => _execution.Failures;

    /// <inheritdoc/>
    public LogicalRange? InterruptWindow => MachineMap.InterruptWindow;

    /// <summary>ECAM, the BAR window, and the chipset's area with the interrupt window.</summary>
    public IReadOnlyList<LogicalRange> BusWindows { get; } =
    [
        new(new(MachineMap.Ecam.First.Value), new(MachineMap.Ecam.Last.Value)),
        new(new(MachineMap.BarWindow.First.Value), new(MachineMap.BarWindow.Last.Value)),
        new(new(MachineMap.BarWindow.Last.Value + 1), new(0xFEFF_FFFF)),
    ];

    /// <summary>Starts QEMU and does what its firmware would.</summary>
    /// <exception cref="QemuException">QEMU is not there, did not start, or refused an option.</exception>
    public static QemuMachine Start(QemuMachineOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        if (options.MemoryBytes < MachineMap.MinimumMemory || options.MemoryBytes % (1 << 20) != 0)
        {
            throw new QemuException($"memory must be whole MiB and at least 16, not {options.MemoryBytes} bytes");
        }
        if (options.MemoryBytes > MostMemory && !options.Arguments.Contains("-cpu"))
        {
            throw new QemuException($"memory too large: {options.MemoryBytes} bytes, the most for QEMU's processor is "
                + $"{MostMemory >> 30} GiB");
        }
        string launcher = options.Launcher ?? QemuLauncher.Find()
            ?? throw new QemuException("QEMU is not there: eng/qemu.sh brings it, or SLUICE_QEMU names one");
        if (!OperatingSystem.IsLinux()) { throw new QemuException("QEMU as a machine needs Linux"); }
        QemuProcess? process = null;
        MemoryBanks? banks = null;
        try
        {
            // QEMU opens both through our descriptors: no name of the user's is ever read by it.
            using SafeFileHandle memory = CreateMemory(options.MemoryBytes);
            using SafeFileHandle? disk = OpenDisk(options);
            banks = MapMemory(memory, options.MemoryBytes);
            process = QemuProcess.Start(
                launcher, Arguments(options, memory, disk), options.Processor, options.Timeout);
            return new(options, process, banks);
        }
        catch (Exception e)
        {
            try { process?.Dispose(); }
            finally { banks?.Dispose(); }
            if (e is QtestException) { throw new QemuException($"QEMU did not start: {e.Message}", e); }
            throw;
        }
    }

    /// <inheritdoc/>
    public RegisterWindow MapRegisters(PhysicalAddress first, uint length)
    {
        if (length == 0 || first.Value > ulong.MaxValue - length
            || Memory.Banks.ToArray().Any(b => b.Range.Overlaps(PhysicalRange.FromLength(first, length))))
        {
            throw new ArgumentOutOfRangeException(nameof(first), $"no device answers at {first} for {length} bytes");
        }
        return new QemuRegisterWindow(Qtest, first, length, Touch);
    }

    /// <inheritdoc/>
    public IInterruptLine ConnectInterrupt(string name, Action handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        IInterruptLine line = _interrupts.Connect(name, handler);
        lock (_connecting) { Volatile.Write(ref _lines, [.. _lines, line]); }
        return new PolledLine(this, line);
    }

    /// <summary>
    /// Polls until <paramref name="condition"/> holds, at most <paramref name="nanoseconds"/> of the machine's time.
    /// </summary>
    /// <returns>Whether the condition held.</returns>
    public bool RunUntil(Func<bool> condition, long nanoseconds = 5_000_000_000)
    {
        ArgumentNullException.ThrowIfNull(condition);
        for (Deadline limit = Deadline.In(Clock, nanoseconds); !limit.HasPassed; limit.Relax())
        {
            if (condition()) { return true; }
        }
        return condition();
    }

    /// <summary>
    /// Ends QEMU, then unmaps its memory. QEMU first: nobody then waits for an answer of one that hangs, and it has
    /// ended whatever comes later.
    /// </summary>
    public void Dispose()
    {
        if (_disposed) { return; }
        _disposed = true;
        _process.Dispose();
        _idlePoll.Dispose();
        _execution.Dispose();
        _banks.Dispose();
    }

    private void Touch()
    {
        Volatile.Write(ref _lastWrite, Stopwatch.GetTimestamp());
        _poller.Wake();
    }

    private bool Poll()
    {
        _clock.CatchUp();
        foreach (IInterruptLine line in Volatile.Read(ref _lines)) { _interrupts.Deliver(line.Message); }
        return Stopwatch.GetElapsedTime(Volatile.Read(ref _lastWrite)) < ActiveFor;
    }

    private static IEnumerable<string> Arguments(
        QemuMachineOptions options, SafeFileHandle memory, SafeFileHandle? disk)
    {
        string megabytes = (options.MemoryBytes >> 20).ToString(CultureInfo.InvariantCulture);
        yield return "-machine";
        yield return "q35,memory-backend=ram,hpet=off";
        yield return "-m";
        yield return megabytes;
        yield return "-object";
        yield return $"memory-backend-file,id=ram,size={megabytes}M,mem-path={PlainFile.PathOf(memory)},share=on";
        if (options.Iommu == MachineIommu.Vtd)
        {
            yield return "-device";
            yield return options.IommuProperties.Length == 0 ? "intel-iommu" : $"intel-iommu,{options.IommuProperties}";
        }
        if (disk is not null)
        {
            // Every layer is named, so that QEMU guesses none from what the name or the content looks like.
            string driver = PlainFile.IsBlockDevice(disk) ? "host_device" : "file";
            string readOnly = options.DiskIsWritable ? "off" : "on";
            yield return "-blockdev";
            yield return $"driver=raw,node-name=disk,read-only={readOnly},"
                + $"file.driver={driver},file.filename={PlainFile.PathOf(disk)}";
            yield return "-device";
            yield return "nvme,drive=disk,serial=sluice,addr=6.0";
        }
        foreach (string device in options.Devices)
        {
            yield return "-device";
            yield return device;
        }
        foreach (string argument in options.Arguments) { yield return argument; }
    }

    /// <summary>A file without a name, for both processes to map, with all the room it may need.</summary>
    private static SafeFileHandle CreateMemory(ulong bytes)
    {
        try { return PlainFile.CreateNameless(checked((long)bytes)); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or OverflowException)
        {
            throw new QemuException($"no room for {bytes >> 20} MiB of memory: {e.Message}", e);
        }
    }

    private static SafeFileHandle? OpenDisk(QemuMachineOptions options)
    {
        if (options.Disk is null) { return null; }
        try { return PlainFile.Open(options.Disk, options.DiskIsWritable); }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new QemuException($"cannot open the disk: {e.Message}", e);
        }
    }

    private static MemoryBanks MapMemory(SafeFileHandle file, ulong bytes)
    {
        NativeBlock block = NativeBlock.Map(file, bytes);
        ulong low = MachineMap.LowMemory(bytes);
        MemoryBank lowBank = new(PhysicalAddress.Zero, block, 0, low);
        return low == bytes ? new(lowBank)
            : new(lowBank, new MemoryBank(MachineMap.HighMemory, block, low, bytes - low));
    }

    private sealed class PolledLine(QemuMachine owner, IInterruptLine line) : IInterruptLine
    {
        public MsiMessage Message => line.Message;

        public void Dispose()
        {
            lock (owner._connecting) { Volatile.Write(ref owner._lines, [.. owner._lines.Where(l => l != line)]); }
            line.Dispose();
        }
    }
}
