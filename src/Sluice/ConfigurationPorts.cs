namespace Sluice;

/// <summary>
/// PCI configuration cycles by ports 0xCF8 (address) and 0xCFC (data): 256 bytes a function, segment 0. Address and
/// data are two accesses that belong together, whoever makes them: every cycle of a machine takes the lock of its port
/// space (<see cref="IPortIo.TwoStepAccess"/>). Safe from any thread.
/// </summary>
/// <remarks>PCI Local Bus 3.0, 3.2.2.3 (configuration mechanism 1).</remarks>
public static class ConfigurationPorts
{
    private const ushort AddressPort = 0xCF8;
    private const ushort DataPort = 0xCFC;
    private const uint Enable = 1u << 31;

    /// <summary>One byte of a function's configuration space; all ones where there is no function.</summary>
    /// <param name="ports">The machine's.</param>
    /// <param name="function">Its segment is not looked at: ports reach segment 0 only.</param>
    /// <param name="offset">In bytes, 0 to 255.</param>
    public static byte Read8(IPortIo ports, PciAddress function, int offset)
    {
        ArgumentNullException.ThrowIfNull(ports);
        lock (ports.TwoStepAccess)
        {
            Select(ports, function, offset);
            return ports.In8((ushort)(DataPort + (offset & 3)));
        }
    }

    /// <summary>Four bytes of a function's configuration space; all ones where there is no function.</summary>
    /// <param name="ports">The machine's.</param>
    /// <param name="function">Its segment is not looked at: ports reach segment 0 only.</param>
    /// <param name="offset">In bytes, 0 to 252, a multiple of 4.</param>
    public static uint Read32(IPortIo ports, PciAddress function, int offset)
    {
        ArgumentNullException.ThrowIfNull(ports);
        lock (ports.TwoStepAccess)
        {
            Select(ports, function, offset);
            return ports.In32(DataPort);
        }
    }

    /// <summary>Writes two bytes of a function's configuration space; nothing happens where there is none.</summary>
    /// <param name="ports">The machine's.</param>
    /// <param name="function">Its segment is not looked at: ports reach segment 0 only.</param>
    /// <param name="offset">In bytes, 0 to 254, a multiple of 2.</param>
    /// <param name="value">What to write.</param>
    public static void Write16(IPortIo ports, PciAddress function, int offset, ushort value)
    {
        ArgumentNullException.ThrowIfNull(ports);
        lock (ports.TwoStepAccess)
        {
            Select(ports, function, offset);
            ports.Out16((ushort)(DataPort + (offset & 2)), value);
        }
    }

    /// <summary>Writes four bytes of a function's configuration space; nothing happens where there is none.</summary>
    /// <param name="ports">The machine's.</param>
    /// <param name="function">Its segment is not looked at: ports reach segment 0 only.</param>
    /// <param name="offset">In bytes, 0 to 252, a multiple of 4.</param>
    /// <param name="value">What to write.</param>
    public static void Write32(IPortIo ports, PciAddress function, int offset, uint value)
    {
        ArgumentNullException.ThrowIfNull(ports);
        lock (ports.TwoStepAccess)
        {
            Select(ports, function, offset);
            ports.Out32(DataPort, value);
        }
    }

    private static void Select(IPortIo ports, PciAddress function, int offset) =>
        ports.Out32(AddressPort, Enable | ((uint)function.Requester.Value << 8) | ((uint)offset & 0xFC));
}
