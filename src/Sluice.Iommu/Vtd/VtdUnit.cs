using Sluice.Formats.Vtd;

namespace Sluice.Iommu;

/// <summary>An Intel VT-d remapping unit in legacy mode, register by register.</summary>
public sealed class VtdUnit : IRemappingUnit
{
    /// <summary>A unit as it comes out of reset: translation off, every DMA passes unchanged.</summary>
    /// <exception cref="ArgumentException">The options describe no possible unit.</exception>
    public VtdUnit(VtdOptions options, PhysicalMemory memory, IInterruptSink interrupts)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        Options = options;
        Registers = null!;
    }

    /// <summary>What it was built with.</summary>
    public VtdOptions Options { get; }

    /// <summary>Its registers.</summary>
    public RegisterWindow Registers { get; }

    /// <summary>What it has done.</summary>
    public VtdStatistics Statistics { get; }

    /// <inheritdoc/>
    public TranslationPort Connect(string name = "") => new(name);

    /// <inheritdoc/>
    public bool TryTranslate(
        TranslationPort port, RequesterId requester, LogicalAddress address, DmaAccess access, out PhysicalRun run)
    {
        run = default;
        return false;
    }

    /// <inheritdoc/>
    public bool TryRemapInterrupt(
        TranslationPort port, RequesterId requester, MsiMessage request, out MsiMessage delivered)
    {
        delivered = request;
        return true;
    }
}
