namespace Sluice.Dma.Wdm;

/// <summary>The bus a device sits on, as far as the DDI asks.</summary>
public enum InterfaceType
{
    /// <summary>InterfaceTypeUndefined: whatever the PDO says. All ours are PCI functions.</summary>
    Undefined = -1,

    /// <summary>An ISA device.</summary>
    Isa = 1,

    /// <summary>A PCI device.</summary>
    PciBus = 5,
}

/// <summary>How wide a subordinate device's transfers are.</summary>
public enum DmaWidth
{
    /// <summary>A byte at a time.</summary>
    Width8Bits,

    /// <summary>Two bytes.</summary>
    Width16Bits,

    /// <summary>Four bytes.</summary>
    Width32Bits,

    /// <summary>Eight bytes.</summary>
    Width64Bits,
}

/// <summary>
/// DEVICE_DESCRIPTION, versions 0 to 3: what a driver says of its device. Fields that its version, or its kind of
/// device, does not have are ignored.
/// </summary>
/// <remarks>Immutable. A field left out is zero or false, as in a structure that was zeroed first.</remarks>
public sealed record WdmDeviceDescription
{
    /// <summary>DEVICE_DESCRIPTION_VERSION … VERSION3: 0 to 3. Any other gets no adapter.</summary>
    public int Version { get; init; }

    /// <summary>A bus master; without it, a subordinate device of a system DMA controller.</summary>
    public bool Master { get; init; }

    /// <summary>
    /// A master that can take all fragments of a buffer. Not whether it may use the list routines: without it they give
    /// one element. A subordinate device has what its controller has.
    /// </summary>
    public bool ScatterGather { get; init; }

    /// <summary>Demand mode (V2, subordinate).</summary>
    public bool DemandMode { get; init; }

    /// <summary>Auto-initialise, or ring, mode (subordinate).</summary>
    public bool AutoInitialize { get; init; }

    /// <summary>V0 to V2: 32 address bits. Ignored when 64 are claimed, and assumed on PCI with
    /// <see cref="ScatterGather"/>.</summary>
    public bool Dma32BitAddresses { get; init; }

    /// <summary>V1 and later: the controller's counter cannot be trusted.</summary>
    public bool IgnoreCount { get; init; }

    /// <summary>V0 to V2: 64 address bits.</summary>
    public bool Dma64BitAddresses { get; init; }

    /// <summary>The controller's channel (V0 to V2, subordinate).</summary>
    public int DmaChannel { get; init; }

    /// <summary>The bus.</summary>
    public InterfaceType InterfaceType { get; init; } = InterfaceType.Undefined;

    /// <summary>The width of a subordinate device's transfers.</summary>
    public DmaWidth DmaWidth { get; init; }

    /// <summary>The most bytes one operation moves: decides how many map registers are granted.</summary>
    public uint MaximumLength { get; init; }

    /// <summary>V3, master: address bits, 1 to 64. Zero is an error, not a default.</summary>
    public int DmaAddressWidth { get; init; }

    /// <summary>V3, subordinate: the request line.</summary>
    public int DmaRequestLine { get; init; }

    /// <summary>V3, subordinate: where the device's data register is.</summary>
    public PhysicalAddress DeviceAddress { get; init; }

    /// <summary>
    /// The address bits this describes for a master; 0 when no adapter can be made of it. A V0 to V2 master that claims
    /// nothing drives the 24 bits of ISA.
    /// </summary>
    /// <remarks>Widths 1 to 11 are legal words without a page behind them: no adapter.</remarks>
    public int AddressBits => Version switch
    {
        3 => DmaAddressWidth is >= 12 and <= 64 ? DmaAddressWidth : 0,
        0 or 1 or 2 when Dma64BitAddresses => 64,
        0 or 1 or 2 when Dma32BitAddresses || (ScatterGather && InterfaceType != InterfaceType.Isa) => 32,
        0 or 1 or 2 => 24,
        _ => 0,
    };

    /// <summary>Map registers for <see cref="MaximumLength"/> bytes, and one for a start inside a page.</summary>
    internal int RegistersWanted => (int)(((ulong)MaximumLength + 4095) >> 12) + 1;
}
