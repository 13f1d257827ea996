namespace Sluice.Machines;

/// <summary>
/// The PCI Express capability of a root complex integrated endpoint, version 2: what QEMU's functions on the root bus
/// show. It has no link, and its reset bit works. It is always the first capability, at 0x40.
/// </summary>
/// <remarks>
/// PCI Express Base 7.5.3. +2 capabilities, +4 device capabilities, +8 device control, +0x24 device capabilities 2.
/// </remarks>
internal static class ExpressCapability
{
    private const int Offset = PciConfig.FirstCapability;
    private const int Length = 0x3C;
    private const int DeviceControl = Offset + 8;
    private const ushort Version2 = 2;
    private const ushort IntegratedEndpoint = 9 << 4;
    private const uint RoleBasedErrors = 1 << 15;
    private const uint FunctionLevelReset = 1 << 28;
    private const ushort InitiateReset = 1 << 15;

    // Error reporting, relaxed ordering, payload and request sizes, no snoop; and the reset bit.
    private const ushort DeviceControlWritable = InitiateReset | 0x78FF;

    public static void Add(PciConfigSpace config)
    {
        config.AddCapability(PciConfig.CapabilityExpress, Length);
        config.Set16(Offset + 2, Version2 | IntegratedEndpoint);
        config.Set32(Offset + 4, RoleBasedErrors | FunctionLevelReset);
        config.Allow16(DeviceControl, DeviceControlWritable);
    }

    /// <summary>Whether software has asked for a reset; the bit reads as zero from then on.</summary>
    public static bool TakeReset(PciConfigSpace config)
    {
        if (config.Length != PciConfig.ExpressSize) { return false; }
        uint control = config.Read(DeviceControl, 2);
        if ((control & InitiateReset) == 0) { return false; }
        config.Set16(DeviceControl, (ushort)(control & ~InitiateReset));
        return true;
    }
}
