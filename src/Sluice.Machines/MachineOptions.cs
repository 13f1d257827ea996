using Sluice.Iommu.Vtd;

namespace Sluice.Machines;

/// <summary>Which remapping unit stands between the devices and memory.</summary>
public enum MachineIommu : byte
{
    /// <summary>None: what a device says is what memory gets.</summary>
    None,

    /// <summary>One VT-d unit over all devices, as QEMU's q35 with intel-iommu.</summary>
    Vtd,
}

/// <summary>
/// A memory region that firmware set up for devices to use before and after the operating system starts (RMRR).
/// </summary>
/// <param name="Range">Whole pages of RAM. No frame of it is handed out.</param>
/// <param name="Devices">Who may reach it.</param>
public sealed record ReservedRegion(PhysicalRange Range, IReadOnlyList<PciAddress> Devices);

/// <summary>How to build a machine. Checked by <see cref="Machine.Create"/>.</summary>
public sealed record MachineOptions
{
    /// <summary>
    /// RAM in bytes: a multiple of 4 KiB, at least 16 MiB, at most 1 TiB. Pages cost nothing until touched.
    /// </summary>
    public ulong MemoryBytes { get; init; } = 256UL << 20;

    /// <summary>The remapping unit.</summary>
    public MachineIommu Iommu { get; init; }

    /// <summary>What the VT-d unit is built with, when there is one.</summary>
    public VtdOptions Vtd { get; init; } = new();

    /// <summary>
    /// For tests: where interrupts are taken, or null for a machine whose devices can only be polled.
    /// </summary>
    internal LogicalRange? InterruptWindow { get; init; } = MachineMap.InterruptWindow;

    /// <summary>
    /// Seeds the order of frames, the kernel's bytes and, when <see cref="Deterministic"/>, the order of everything.
    /// </summary>
    public int Seed { get; init; } = 1;

    /// <summary>
    /// False: every device has a thread. True: everything runs on the thread that waits
    /// (<see cref="IPlatformClock.Relax"/>, <see cref="Machine.RunUntil"/>), in an order that the seed decides, on
    /// virtual time.
    /// </summary>
    public bool Deterministic { get; init; }

    /// <summary>Virtual time per step of a deterministic machine.</summary>
    public long NanosecondsPerStep { get; init; } = 100;

    /// <summary>
    /// How long an idle device thread polls before it sleeps. Waking a sleeping thread costs some microseconds.
    /// </summary>
    public TimeSpan IdleSpin { get; init; } = TimeSpan.FromMicroseconds(20);

    /// <summary>Firmware's regions, reported in the DMAR table.</summary>
    public IReadOnlyList<ReservedRegion> ReservedRegions { get; init; } = [];

    /// <summary>
    /// Flags of the DMAR table: bit 0 interrupt remapping, bit 1 x2APIC opt-out, bit 2 platform opt-in.
    /// </summary>
    public byte DmarFlags { get; init; }
}
