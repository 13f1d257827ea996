using Sluice.Formats.Acpi;

namespace Sluice.Machines;

/// <summary>
/// A way for operating-system code to reach configuration space. Absent functions read all ones. Safe from any thread.
/// </summary>
internal abstract class ConfigAccess
{
    /// <summary>256 by ports, 4096 by ECAM.</summary>
    public abstract int Length { get; }

    public abstract uint Read32(PciAddress function, int offset);

    public abstract void Write32(PciAddress function, int offset, uint value);

    public abstract void Write16(PciAddress function, int offset, ushort value);

    public uint Read(PciAddress function, int offset, int size)
    {
        uint word = Read32(function, offset & ~3) >> ((offset & 3) * 8);
        return size == 4 ? word : word & ((1u << (size * 8)) - 1);
    }

    /// <summary>ECAM where the firmware's tables say that there is one and somebody answers, else ports.</summary>
    public static ConfigAccess Find(IPlatform platform) =>
        McfgFinder.TryFind(platform, out EcamWindow window)
        && new EcamConfigAccess(platform, window) is { IsThere: true } ecam
            ? ecam
            : new PortConfigAccess(platform.Ports);
}

/// <summary>Ports 0xCF8 and 0xCFC: 256 bytes a function, segment 0.</summary>
internal sealed class PortConfigAccess(IPortIo ports) : ConfigAccess
{
    public override int Length => PciConfig.ConventionalSize;

    public override uint Read32(PciAddress function, int offset) =>
        ConfigurationPorts.Read32(ports, function, offset);

    public override void Write32(PciAddress function, int offset, uint value) =>
        ConfigurationPorts.Write32(ports, function, offset, value);

    public override void Write16(PciAddress function, int offset, ushort value) =>
        ConfigurationPorts.Write16(ports, function, offset, value);
}

/// <summary>
/// ECAM: 4096 bytes a function, a window per bus, mapped when first used. Buses that the table leaves out, or where
/// nobody answers, have no functions.
/// </summary>
internal sealed class EcamConfigAccess(IPlatform platform, EcamWindow ecam) : ConfigAccess
{
    private const int BusLog2 = 20;
    private readonly RegisterWindow?[] _buses = new RegisterWindow?[256];
    private readonly bool[] _absent = new bool[256];

    public override int Length => PciConfig.ExpressSize;

    /// <summary>Whether anybody answers for bus 0, which every machine has.</summary>
    public bool IsThere => Bus(default) is not null;

    public override uint Read32(PciAddress function, int offset) =>
        Bus(function)?.Read32(At(function, offset)) ?? uint.MaxValue;

    public override void Write32(PciAddress function, int offset, uint value) =>
        Bus(function)?.Write32(At(function, offset), value);

    public override void Write16(PciAddress function, int offset, ushort value) =>
        Bus(function)?.Write16(At(function, offset), value);

    private static uint At(PciAddress function, int offset) =>
        ((uint)function.Requester.DeviceFunction << 12) | (uint)offset;

    private RegisterWindow? Bus(PciAddress function)
    {
        if (!ecam.TryLocate(function, out PhysicalAddress at)) { return null; }
        byte bus = function.Requester.Bus;
        if (Volatile.Read(ref _buses[bus]) is { } window) { return window; }
        if (Volatile.Read(ref _absent[bus])) { return null; }
        try { return _buses[bus] = platform.MapRegisters(at - At(function, 0), 1 << BusLog2); }
        catch (ArgumentOutOfRangeException)
        {
            Volatile.Write(ref _absent[bus], true);
            return null;
        }
    }
}
