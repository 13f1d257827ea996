namespace Sluice.Machines;

/// <summary>Which requester id a bridge puts on what comes from behind it.</summary>
public enum BridgeAlias : byte
{
    /// <summary>Device 0, function 0 of the bus behind it: a PCI Express to PCI bridge.</summary>
    SecondaryBus,

    /// <summary>Its own: a bridge between two conventional buses, without a PCI Express capability.</summary>
    Itself,
}

/// <summary>
/// A bridge to a conventional PCI bus. Conventional PCI has no requester ids, so everything from behind it arrives at
/// the remapping unit under one: no unit can tell the functions there apart. Functions are plugged in behind it by bus
/// number.
/// </summary>
/// <remarks>
/// PCI-to-PCI Bridge 1.2, 3.2; PCI Express to PCI/PCI-X Bridge 1.0, 2.3. Firmware has numbered its bus when it is
/// plugged in. It forwards every memory access and has no windows; its bus master enable stops all DMA from behind. It
/// says that it is QEMU's pcie-pci-bridge, 1b36:000e, or Intel's DMI-to-PCI bridge, 8086:244e.
/// </remarks>
public sealed class PciBridge : PciDevice
{
    private const int PrimaryBus = 0x18;
    private const int SubordinateBus = 0x1A;
    private const int ExpressCapabilities = PciConfig.FirstCapability + 2;
    private const ushort ExpressToPci = 2 | (7 << 4);

    /// <summary>A bridge to bus <paramref name="secondaryBus"/>, not plugged in yet.</summary>
    /// <param name="secondaryBus">1 to 255.</param>
    /// <param name="alias">The requester id it lends.</param>
    public PciBridge(byte secondaryBus, BridgeAlias alias = BridgeAlias.SecondaryBus)
        : base("pci-bridge", IdentityOf(alias), express: alias == BridgeAlias.SecondaryBus)
    {
        ArgumentOutOfRangeException.ThrowIfZero(secondaryBus);
        (SecondaryBus, Alias) = (secondaryBus, alias);
        Config.Set8(PciConfig.HeaderType, 1);
        Config.Set32(PrimaryBus, ((uint)secondaryBus << 8) | ((uint)secondaryBus << 16));
        if (alias == BridgeAlias.SecondaryBus) { Config.Set16(ExpressCapabilities, ExpressToPci); }
    }

    /// <summary>The bus behind it.</summary>
    public byte SecondaryBus { get; }

    /// <summary>Which id it lends.</summary>
    public BridgeAlias Alias { get; }

    /// <summary>The id under which the root complex sees everything from behind.</summary>
    public RequesterId Requester =>
        Alias == BridgeAlias.Itself ? Address.Requester : RequesterId.From(SecondaryBus, 0, 0);

    /// <inheritdoc/>
    public override ulong ReadBar(int bar, ulong offset, int size) => ulong.MaxValue;

    /// <inheritdoc/>
    public override void WriteBar(int bar, ulong offset, int size, ulong value)
    {
    }

    /// <inheritdoc/>
    public override bool Step() => false;

    /// <summary>Another bridge came behind it: its range of buses grows, as firmware would number them.</summary>
    internal void Cover(byte bus)
    {
        if (Config.Read(SubordinateBus, 1) < bus) { Config.Set8(SubordinateBus, bus); }
    }

    private static PciIdentity IdentityOf(BridgeAlias alias) => alias == BridgeAlias.SecondaryBus
        ? new(0x1B36, 0x000E, 0x06_04_00, SubsystemVendorId: 0, SubsystemId: 0)
        : new(0x8086, 0x244E, 0x06_04_01, SubsystemVendorId: 0, SubsystemId: 0);
}
