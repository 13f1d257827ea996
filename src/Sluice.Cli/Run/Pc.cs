using Sluice.Dma;
using Sluice.Drivers;
using Sluice.Drivers.Edu;
using Sluice.Drivers.Nvme;
using Sluice.Machines;
using Sluice.Machines.Nvme;

namespace Sluice.Cli.Run;

/// <summary>
/// The whole stack, booted: an in-process PC with an NVMe controller and an edu device, our operating-system side, and
/// drivers
/// that see nothing but the DMA DDI and their registers.
/// </summary>
internal sealed class Pc : IDisposable
{
    private static readonly PciAddress NvmeSlot = PciAddress.From(0, 4, 0);
    private static readonly PciAddress EduSlot = PciAddress.From(0, 5, 0);

    private Pc(Machine machine, DmaSystem dma) => (Machine, Dma) = (machine, dma);

    /// <summary>The hardware.</summary>
    public Machine Machine { get; }

    /// <summary>The machine's DMA.</summary>
    public DmaSystem Dma { get; }

    /// <summary>The NVMe controller, driven.</summary>
    public NvmeController Nvme { get; private set; } = null!;

    /// <summary>Its way to memory.</summary>
    public DmaAdapter NvmeAdapter { get; private set; } = null!;

    /// <summary>The edu device, driven.</summary>
    public EduDevice Edu { get; private set; } = null!;

    /// <summary>Its way to memory.</summary>
    public DmaAdapter EduAdapter { get; private set; } = null!;

    /// <summary>Builds and boots it; the medium becomes the machine's.</summary>
    public static Pc Boot(RunOptions options, INvmeMedium medium, bool useInterrupts = true)
    {
        bool remaps = options.Iommu == IommuKind.Vtd;
        Machine machine;
        try
        {
            machine = Machine.Create(new()
            {
                MemoryBytes = options.MemoryBytes,
                Iommu = remaps ? MachineIommu.Vtd : MachineIommu.None,
            });
        }
        catch
        {
            medium.Dispose();
            throw;
        }
        Pc? pc = null;
        try
        {
            machine.Plug(new NvmeDevice(medium), NvmeSlot);
            machine.Plug(new EduModel(new() { DmaMask = ulong.MaxValue, DmaDelayNanoseconds = 0 }), EduSlot);
            pc = new(machine, DmaSystem.Start(machine, new()
            {
                Iommu = remaps ? DmaIommu.Vtd : DmaIommu.None,
                Policy = options.Policy,
                RegionNames = new KernelNames(machine.Kernel),
            }));
            pc.StartDrivers(useInterrupts);
            return pc;
        }
        catch
        {
            if (pc is null) { machine.Dispose(); }
            pc?.Dispose();
            throw;
        }
    }

    private void StartDrivers(bool useInterrupts)
    {
        foreach (PciFunction function in PciBus.Enumerate(Machine))
        {
            if (function.Address == NvmeSlot)
            {
                NvmeAdapter = Dma.CreateAdapter(NvmeSlot, new(), "nvme");
                Nvme = NvmeController.Start(Resources(function, NvmeAdapter), new() { UseInterrupts = useInterrupts });
            }
            else if (function.Address == EduSlot)
            {
                EduAdapter = Dma.CreateAdapter(EduSlot, new() { MaximumLength = EduDevice.BufferBytes }, "edu");
                Edu = EduDevice.Start(Resources(function, EduAdapter));
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
        Nvme?.Dispose();
        Dma.Dispose();
        Machine.Dispose();
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
