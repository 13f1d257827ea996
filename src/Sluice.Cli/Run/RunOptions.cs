using Sluice.Remapping;

namespace Sluice.Cli.Run;

/// <summary>What kind of remapping unit stands between the devices and memory.</summary>
internal enum IommuKind
{
    /// <summary>None: devices reach all memory.</summary>
    None,

    /// <summary>Intel VT-d.</summary>
    Vtd,
}

/// <summary>Whose hardware.</summary>
internal enum MachineKind
{
    /// <summary>The in-process PC.</summary>
    Sim,

    /// <summary>QEMU's q35, driven over qtest.</summary>
    Qemu,
}

/// <summary>One checked <c>sluice run</c> command line.</summary>
/// <param name="DiskPath">The image to read; null for one made for this run.</param>
/// <param name="Machine">Whose hardware.</param>
/// <param name="Iommu">The kind of unit.</param>
/// <param name="Policy">When unmapped memory becomes unreachable.</param>
/// <param name="MemoryBytes">The machine's memory.</param>
/// <param name="Bounce">Whether the disk's controller drives 32 address bits only, with a pool to copy through where
/// nothing remaps; memory then goes beyond 4 GiB.</param>
/// <param name="Rogue">The misbehaviours to try after the disk was read.</param>
/// <param name="Json">One JSON document instead of text.</param>
internal sealed record RunOptions(
    string? DiskPath,
    MachineKind Machine,
    IommuKind Iommu,
    InvalidationPolicy Policy,
    ulong MemoryBytes,
    bool Bounce,
    IReadOnlyList<RogueCase> Rogue,
    bool Json);
