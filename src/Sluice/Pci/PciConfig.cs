namespace Sluice;

/// <summary>
/// Registers of PCI configuration space by their offset in bytes, and their bits: what a device model shows and what
/// operating-system code looks at.
/// </summary>
/// <remarks>PCI Local Bus 3.0 chapter 6; PCI Express Base chapter 7.</remarks>
public static class PciConfig
{
    /// <summary>Vendor id, 16 bits.</summary>
    public const int Vendor = 0x00;

    /// <summary>Device id, 16 bits.</summary>
    public const int Device = 0x02;

    /// <summary>Command register, 16 bits.</summary>
    public const int Command = 0x04;

    /// <summary>Status register, 16 bits.</summary>
    public const int Status = 0x06;

    /// <summary>Revision, 8 bits.</summary>
    public const int Revision = 0x08;

    /// <summary>Class code, 24 bits.</summary>
    public const int ClassCode = 0x09;

    /// <summary>Cache line size in words of 32 bits, 8 bits.</summary>
    public const int CacheLineSize = 0x0C;

    /// <summary>Header type, 8 bits.</summary>
    public const int HeaderType = 0x0E;

    /// <summary>The first base address register, 32 bits; the others follow.</summary>
    public const int FirstBar = 0x10;

    /// <summary>Subsystem vendor id, 16 bits.</summary>
    public const int SubsystemVendor = 0x2C;

    /// <summary>Subsystem id, 16 bits.</summary>
    public const int Subsystem = 0x2E;

    /// <summary>Offset of the first capability, 8 bits.</summary>
    public const int CapabilityPointer = 0x34;

    /// <summary>Interrupt line, 8 bits: software's scratch register.</summary>
    public const int InterruptLine = 0x3C;

    /// <summary>Interrupt pin, 8 bits: 1 for INTA, 0 for none.</summary>
    public const int InterruptPin = 0x3D;

    /// <summary>The least offset that a capability can have.</summary>
    public const int FirstCapability = 0x40;

    /// <summary>Base address registers of a function that is no bridge.</summary>
    public const int BarCount = 6;

    /// <summary>Bytes of a conventional function.</summary>
    public const int ConventionalSize = 0x100;

    /// <summary>Bytes of a PCI Express function.</summary>
    public const int ExpressSize = 0x1000;

    /// <summary>Command: I/O BARs answer.</summary>
    public const ushort CommandIo = 1 << 0;

    /// <summary>Command: memory BARs answer.</summary>
    public const ushort CommandMemory = 1 << 1;

    /// <summary>Command: the function may send DMA and messages.</summary>
    public const ushort CommandBusMaster = 1 << 2;

    /// <summary>Command: the function may report system errors.</summary>
    public const ushort CommandSystemError = 1 << 8;

    /// <summary>Command: the interrupt pin is silent.</summary>
    public const ushort CommandInterruptDisable = 1 << 10;

    /// <summary>Status: the function wants its pin raised.</summary>
    public const ushort StatusInterrupt = 1 << 3;

    /// <summary>Status: there is a list of capabilities.</summary>
    public const ushort StatusCapabilities = 1 << 4;

    /// <summary>Header type: functions 1 to 7 may be there.</summary>
    public const byte MultiFunction = 0x80;

    /// <summary>BAR: in the port space.</summary>
    public const uint BarIo = 1;

    /// <summary>Memory BAR: the next register holds its upper half.</summary>
    public const uint Bar64 = 0b100;

    /// <summary>Memory BAR: reads have no effect.</summary>
    public const uint BarPrefetchable = 0b1000;

    /// <summary>Capability: power management.</summary>
    public const byte CapabilityPower = 0x01;

    /// <summary>Capability: message-signalled interrupts.</summary>
    public const byte CapabilityMsi = 0x05;

    /// <summary>Capability: PCI Express.</summary>
    public const byte CapabilityExpress = 0x10;

    /// <summary>Capability: message-signalled interrupts with a table.</summary>
    public const byte CapabilityMsix = 0x11;

    /// <summary>MSI control word (at +2): on.</summary>
    public const ushort MsiEnable = 1 << 0;

    /// <summary>MSI control word (at +2): the address has 64 bits.</summary>
    public const ushort Msi64 = 1 << 7;

    /// <summary>
    /// MSI-X control word (at +2): on. The table's place is at +4, that of the pending bits at +8, both with the BAR in
    /// the low three bits.
    /// </summary>
    public const ushort MsixEnable = 1 << 15;

    /// <summary>MSI-X control word: all vectors wait.</summary>
    public const ushort MsixFunctionMask = 1 << 14;

    /// <summary>Bytes of an entry of the MSI-X table: address, its upper half, data, control.</summary>
    public const int MsixEntrySize = 16;

    /// <summary>Control word of an entry of the MSI-X table: the vector waits.</summary>
    public const uint MsixVectorMasked = 1;
}
