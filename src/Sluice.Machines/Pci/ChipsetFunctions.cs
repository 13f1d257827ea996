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

/// <summary>
/// The q35 host bridge, 00:00.0, with the register that says where ECAM is: PCIEXBAR, 64 bits at 0x60, as firmware sets
/// it. Its other registers show what they show after power-on, and nothing is behind them.
/// <code>
/// 35:28 base   27, 26 base too where the size leaves them   2:1 size: 256, 128, 64 MiB, reserved   0 enable
/// </code>
/// </summary>
/// <remarks>
/// Q35 (316966), 5.1.13 and following. A reserved size changes nothing, enabled or not; bits from 36 up are kept and
/// not used, as in QEMU.
/// </remarks>
internal sealed class HostBridge : ChipsetFunction
{
    private const int ExpressBar = 0x60;
    private const uint Enable = 1;
    private const ulong BaseMask = 0xF_FC00_0000;
    private const int LargestLog2 = 28;
    private const int Sizes = 3;
    private readonly PciHost _host;

    public HostBridge(PciHost host)
        : base("host-bridge", new(0x8086, 0x29C0, 0x06_00_00))
    {
        _host = host;
        Config.Set32(0x50, 0x40);
        Config.Set32(0x9C, 0x38_0200);
        Config.Set32(ExpressBar, (uint)MachineMap.Ecam.First.Value | Enable);
        Config.Allow32(ExpressBar, uint.MaxValue);
        Config.Allow32(ExpressBar + 4, uint.MaxValue);
        Configured();
    }

    private protected override void Configured()
    {
        ulong word = Config.Read(ExpressBar, 4) | ((ulong)Config.Read(ExpressBar + 4, 4) << 32);
        int code = (int)(word >> 1) & 3;
        if (code >= Sizes) { return; }
        int sizeLog2 = LargestLog2 - code;
        _host.Ecam = (word & Enable) == 0 ? null : PhysicalRange.FromLength(
            new PhysicalAddress(word & BaseMask).AlignDown(sizeLog2), 1UL << sizeLog2);
    }
}

/// <summary>
/// The ICH9 LPC bridge, 00:1f.0; says that its device has several functions, as on q35. Its power-management base and
/// interrupt routes show what they show after power-on, and nothing is behind them.
/// </summary>
internal sealed class LpcBridge : ChipsetFunction
{
    public LpcBridge()
        : base("lpc-bridge", new(0x8086, 0x2918, 0x06_01_00, Revision: 2))
    {
        Config.Set8(PciConfig.HeaderType, PciConfig.MultiFunction);
        Config.Set32(0x40, 1);
        Config.Set32(0x60, 0x8080_8080);
        Config.Set32(0x68, 0x8080_8080);
    }
}
