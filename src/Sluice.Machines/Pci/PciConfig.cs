namespace Sluice.Machines;

/// <summary>Offsets and bits of PCI configuration space that both sides use.</summary>
/// <remarks>PCI Local Bus 3.0 chapter 6; PCI Express Base chapter 7.</remarks>
internal static class PciConfig
{
    public const int Vendor = 0x00;
    public const int Device = 0x02;
    public const int Command = 0x04;
    public const int Status = 0x06;
    public const int Revision = 0x08;
    public const int ClassCode = 0x09;
    public const int CacheLineSize = 0x0C;
    public const int HeaderType = 0x0E;
    public const int FirstBar = 0x10;
    public const int SubsystemVendor = 0x2C;
    public const int Subsystem = 0x2E;
    public const int CapabilityPointer = 0x34;
    public const int InterruptLine = 0x3C;
    public const int InterruptPin = 0x3D;
    public const int FirstCapability = 0x40;

    public const int BarCount = 6;
    public const int ConventionalSize = 0x100;
    public const int ExpressSize = 0x1000;

    public const ushort CommandIo = 1 << 0;
    public const ushort CommandMemory = 1 << 1;
    public const ushort CommandBusMaster = 1 << 2;
    public const ushort CommandSystemError = 1 << 8;
    public const ushort CommandInterruptDisable = 1 << 10;
    public const ushort CommandWritable =
        CommandIo | CommandMemory | CommandBusMaster | CommandSystemError | CommandInterruptDisable;
    public const ushort StatusInterrupt = 1 << 3;
    public const ushort StatusCapabilities = 1 << 4;
    public const byte MultiFunction = 0x80;

    public const uint BarIo = 1;
    public const uint Bar64 = 0b100;
    public const uint BarPrefetchable = 0b1000;

    public const byte CapabilityPower = 0x01;
    public const byte CapabilityMsi = 0x05;
    public const byte CapabilityExpress = 0x10;
    public const byte CapabilityMsix = 0x11;

    // MSI: control word at +2.
    public const ushort MsiEnable = 1 << 0;
    public const ushort Msi64 = 1 << 7;

    // MSI-X: control word at +2; table at +4, pending bits at +8 (low three bits: BAR).
    public const ushort MsixEnable = 1 << 15;
    public const ushort MsixFunctionMask = 1 << 14;
    public const int MsixEntrySize = 16;
    public const uint MsixVectorMasked = 1;
}
