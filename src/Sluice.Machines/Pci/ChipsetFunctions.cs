namespace Sluice.Machines;

/// <summary>A function of the chipset that software recognizes by its ids and that does nothing here.</summary>
internal abstract class ChipsetFunction(string name, PciIdentity identity) : PciDevice(name, identity, express: false)
{
    public sealed override ulong ReadBar(int bar, ulong offset, int size) => ulong.MaxValue;

    public sealed override void WriteBar(int bar, ulong offset, int size, ulong value)
    {
    }

    public sealed override bool Step() => false;
}

/// <summary>The q35 host bridge, 00:00.0, with the register that says where ECAM is (0x60, fixed here).</summary>
internal sealed class HostBridge : ChipsetFunction
{
    public HostBridge()
        : base("host-bridge", new(0x8086, 0x29C0, 0x06_00_00))
    {
        const uint Enable = 1;
        Config.Set32(0x60, (uint)MachineMap.Ecam.First.Value | Enable);
    }
}

/// <summary>The ICH9 LPC bridge, 00:1f.0; says that its device has several functions, as on q35.</summary>
internal sealed class LpcBridge : ChipsetFunction
{
    public LpcBridge()
        : base("lpc-bridge", new(0x8086, 0x2918, 0x06_01_00, Revision: 2)) =>
        Config.Set8(PciConfig.HeaderType, PciConfig.MultiFunction);
}
