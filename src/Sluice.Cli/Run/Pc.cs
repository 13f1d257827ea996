using Sluice.Dma;
using Sluice.Drivers;
using Sluice.Drivers.Edu;
using Sluice.Drivers.Nvme;
using Sluice.Machines;
using Sluice.Machines.Nvme;
using Sluice.Machines.Qemu;

namespace Sluice.Cli.Run;

/// <summary>
/// The whole stack, booted: a PC with an NVMe controller and an edu device (ours or QEMU's), our operating-system side,
/// and drivers that see nothing but the DMA DDI and their registers.
/// </summary>
internal sealed class Pc : IDisposable
{
    private const int NvmeClass = 0x01_08_02;
    private const uint EduId = 0x11E8_1234;
    private static readonly PciAddress NvmeSlot = PciAddress.From(0, 4, 0);
    private static readonly PciAddress EduSlot = PciAddress.From(0, 5, 0);
    private readonly IDisposable _hardware;

    private Pc(IPlatform machine, IDisposable hardware, KernelArea kernel, DmaSystem dma, bool hasUnit) =>
        (Machine, _hardware, Kernel, Dma, HasUnit) = (machine, hardware, kernel, dma, hasUnit);

    /// <summary>The machine, as operating-system code sees it.</summary>
    public IPlatform Machine { get; }

    /// <summary>Kernel code and tables, in use and checked.</summary>
    public KernelArea Kernel { get; }

    /// <summary>The machine's DMA.</summary>
    public DmaSystem Dma { get; }

    /// <summary>Whether a remapping unit stands between the devices and memory.</summary>
    public bool HasUnit { get; }

    /// <summary>Hits and misses of the unit's translation caches so far; null where nobody counts them.</summary>
    public (long? Hits, long? Misses) Iotlb => Machine switch
    {
        Machine { Unit.Counters: var unit } => (unit.Hits, unit.Misses),
        _ => HasUnit ? (null, null) : (0, 0),
    };

    /// <summary>
    /// Why the machine answers no more, in one line; null while it may. What its end makes drivers and units say is not
    /// the cause.
    /// </summary>
    public string? WhyStopped => (Machine as QemuMachine)?.Qtest.WhyBroken;

    /// <summary>The NVMe controller, driven.</summary>
    public NvmeController Nvme { get; private set; } = null!;

    /// <summary>Its way to memory.</summary>
    public DmaAdapter NvmeAdapter { get; private set; } = null!;

    /// <summary>The edu device, driven.</summary>
    public EduDriver Edu { get; private set; } = null!;

    /// <summary>Its way to memory.</summary>
    public DmaAdapter EduAdapter { get; private set; } = null!;

    /// <summary>Builds and boots it. The disk stays the caller's.</summary>
    public static Pc Boot(RunOptions options, DiskImage disk, Terminal terminal, bool useInterrupts = true)
    {
        bool remaps = options.Iommu == IommuKind.Vtd;
        (IPlatform machine, IDisposable hardware, KernelArea kernel) = options.Machine == MachineKind.Sim
            ? Simulated(options, disk, remaps)
            : Emulated(options, disk, remaps, terminal);
        Pc? pc = null;
        try
        {
            DmaOptions dma = new()
            {
                Iommu = remaps ? DmaIommu.Vtd : DmaIommu.None,
                Policy = options.Policy,
                Bounce = options.Bounce ? new() : null,
                RegionNames = new KernelNames(kernel),
            };
            pc = new(machine, hardware, kernel, DmaSystem.Start(machine, dma), remaps);
            pc.StartDrivers(useInterrupts, options.Bounce ? 32 : 64);
            return pc;
        }
        catch
        {
            // What went wrong first is what is told.
            try { (pc ?? hardware).Dispose(); }
            catch (Exception second) when (second is IOException or DmaException or TimeoutException) { }
            throw;
        }
    }

    private static (IPlatform Machine, IDisposable Hardware, KernelArea Kernel) Simulated(
        RunOptions options, DiskImage disk, bool remaps)
    {
        Machine machine = Machines.Machine.Create(new()
        {
            MemoryBytes = options.MemoryBytes, Iommu = remaps ? MachineIommu.Vtd : MachineIommu.None,
        });
        try
        {
            machine.Plug(new NvmeModel(disk.Open()), NvmeSlot);
            machine.Plug(new EduModel(new() { DmaMask = ulong.MaxValue, DmaDelayNanoseconds = 0 }), EduSlot);
            return (machine, machine, machine.Kernel);
        }
        catch
        {
            machine.Dispose();
            throw;
        }
    }

    private static (IPlatform Machine, IDisposable Hardware, KernelArea Kernel) Emulated(
        RunOptions options, DiskImage disk, bool remaps, Terminal terminal)
    {
        QemuMachine machine = QemuMachine.Start(new()
        {
            Launcher = QemuFetcher.Require(terminal),
            MemoryBytes = options.MemoryBytes,
            Disk = disk.Path,
            Iommu = remaps ? MachineIommu.Vtd : MachineIommu.None,
        });
        return (machine, machine, machine.Kernel);
    }

    private void StartDrivers(bool useInterrupts, int addressBits)
    {
        foreach (PciFunction function in PciBus.Enumerate(Machine))
        {
            if (function.ClassCode == NvmeClass)
            {
                NvmeAdapter = Dma.CreateAdapter(function.Address, new() { AddressBits = addressBits }, "nvme");
                Nvme = NvmeController.Start(Resources(function, NvmeAdapter), new() { UseInterrupts = useInterrupts });
            }
            else if ((function.DeviceId << 16 | function.VendorId) == EduId)
            {
                EduAdapter = Dma.CreateAdapter(function.Address, new() { MaximumLength = EduDriver.BufferBytes }, "edu");
                Edu = EduDriver.Start(Resources(function, EduAdapter));
            }
        }
    }

    private DeviceResources Resources(PciFunction function, DmaAdapter adapter)
    {
        RegisterWindow registers = function.MapBar(0);
        function.EnableBusMaster();
        return new(
            Machine, adapter, registers, (vector, handler) => Connect(function, adapter.Driver, vector, handler));
    }

    private IInterruptLine? Connect(PciFunction function, string name, int vector, Action handler)
    {
        int vectors = function.MsixVectors;
        if (vector >= Math.Max(vectors, 1)) { return null; }
        IInterruptLine line = Machine.ConnectInterrupt($"{name} {vector}", handler);
        if (vectors > 0) { function.EnableMsix(vector, line); }
        else { function.EnableMsi(line); }
        return line;
    }

    /// <summary>Stops the drivers, then the DMA, then the machine.</summary>
    public void Dispose()
    {
        // Hardware that died fails its drivers on their way out, and is ended all the same.
        try { Nvme?.Dispose(); }
        finally
        {
            try { Dma.Dispose(); }
            finally { _hardware.Dispose(); }
        }
    }

    // Reports name what a wild DMA aimed at; only the machine knows where its kernel lies.
    private sealed class KernelNames(KernelArea kernel) : IPhysicalRegionNames
    {
        public string? NameOf(PhysicalAddress address)
        {
            PhysicalAddress page = address.AlignDown(12);
            if (page == kernel.InterruptTable) { return "kernel interrupt table"; }
            if (page == kernel.SystemCallTable) { return "kernel system-call table"; }
            return kernel.Code.Contains(page) ? "kernel code" : null;
        }
    }
}
