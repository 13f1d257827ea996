using Sluice.Iommu;

namespace Sluice.Machines;

/// <summary>
/// Where the bus meets memory: every DMA of every device passes here, with its requester id, and nowhere else.
/// <code>
/// device → bus master enable → interrupt window? → remapping unit, page by page → memory
/// </code>
/// A DMA to another device's registers (peer to peer) is not routed: it finds no memory and is refused.
/// </summary>
internal sealed class RootComplex(
    PhysicalMemory memory, IRemappingUnit? unit, IInterruptSink interrupts, LogicalRange? interruptWindow)
{
    public PhysicalMemory Memory { get; } = memory;

    public IRemappingUnit? Unit { get; } = unit;

    public IInterruptSink Interrupts { get; } = interrupts;

    /// <summary>Null: every write is memory.</summary>
    public LogicalRange? InterruptWindow { get; } = interruptWindow;

    /// <summary>A port for one agent.</summary>
    public DmaPort Connect(PciDevice device, string name) => new(this, device, name);
}
