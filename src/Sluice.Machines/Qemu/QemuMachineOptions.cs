namespace Sluice.Machines.Qemu;

/// <summary>How to start QEMU as a machine. Checked by <see cref="QemuMachine.Start"/>, and by QEMU itself.</summary>
public sealed record QemuMachineOptions
{
    /// <summary>
    /// RAM in bytes: a multiple of 1 MiB, at least 16 MiB and, unless <see cref="Arguments"/> choose another
    /// processor, at most 978 GiB. It is a file without a name that both processes map.
    /// </summary>
    public ulong MemoryBytes { get; init; } = 256UL << 20;

    /// <summary>The remapping unit.</summary>
    public MachineIommu Iommu { get; init; } = MachineIommu.Vtd;

    /// <summary>Further properties of QEMU's <c>intel-iommu</c>, as <c>caching-mode=on,aw-bits=39</c>.</summary>
    public string IommuProperties { get; init; } = "intremap=off";

    /// <summary>
    /// A raw disk image for an NVMe controller at 00:06.0; none when null. A regular file or block device, whatever its
    /// name and its content look like: QEMU reads it as it is and opens no other.
    /// </summary>
    public string? Disk { get; init; }

    /// <summary>Whether writes reach the image. Otherwise the controller refuses them.</summary>
    public bool DiskIsWritable { get; init; }

    /// <summary>Devices as QEMU's <c>-device</c> takes them, each with its <c>addr</c>.</summary>
    public IReadOnlyList<string> Devices { get; init; } = ["edu,addr=5.0,dma_mask=0xffffffffffffffff"];

    /// <summary>Further arguments, passed as they are.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];

    /// <summary>Seeds the order of frames and the kernel's bytes.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>The program that starts QEMU; null for the one that <see cref="QemuLauncher.Find"/> finds.</summary>
    public string? Launcher { get; init; }

    /// <summary>
    /// The only processor QEMU may run on; null for any. A client thread on the same one triples the commands per
    /// second: no wake-up crosses to another core.
    /// </summary>
    public int? Processor { get; init; }

    /// <summary>How long the start, and later each answer, may take.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>
    /// By how much one turn of a polling loop moves QEMU's virtual clock, on top of the real time that passed: a
    /// device's timer of 100 ms is then over in 500 turns, some tens of milliseconds.
    /// </summary>
    public long NanosecondsPerRelax { get; init; } = 200_000;
}
