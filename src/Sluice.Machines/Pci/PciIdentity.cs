namespace Sluice.Machines;

/// <summary>What a function says it is in its configuration header.</summary>
/// <param name="VendorId">Offset 0.</param>
/// <param name="DeviceId">Offset 2.</param>
/// <param name="ClassCode">24 bits: class, subclass, programming interface; 0x010802 is NVMe.</param>
/// <param name="Revision">Offset 8.</param>
/// <param name="SubsystemVendorId">Offset 0x2C; QEMU's functions say 1af4.</param>
/// <param name="SubsystemId">Offset 0x2E; QEMU's functions say 1100.</param>
/// <remarks>PCI Local Bus specification 3.0, 6.2.1.</remarks>
public readonly record struct PciIdentity(
    ushort VendorId,
    ushort DeviceId,
    int ClassCode,
    byte Revision = 0,
    ushort SubsystemVendorId = 0x1AF4,
    ushort SubsystemId = 0x1100);
