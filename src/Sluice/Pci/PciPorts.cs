namespace Sluice;

/// <summary>
/// PCI configuration cycles by ports 0xCF8 (address) and 0xCFC (data): 256 bytes a function, segment 0. Address and
/// data are two accesses that belong together, whoever makes them: every cycle of a machine takes the lock of its port
/// space (<see cref="IPortIo.TwoStepAccess"/>).
/// </summary>
/// <remarks>PCI Local Bus 3.0, 3.2.2.3 (configuration mechanism 1).</remarks>
/// <param name="ports">The machine's.</param>
public sealed class PciPorts(IPortIo ports) : IPciConfiguration
{
    private const ushort AddressPort = 0xCF8;
    private const ushort DataPort = 0xCFC;
    private const uint Enable = 1u << 31;

    /// <inheritdoc/>
    public int LengthOf(PciAddress address) => address.Segment == 0 ? PciConfig.ConventionalSize : 0;

    /// <inheritdoc/>
    public uint Read(PciAddress address, int offset, int size)
    {
        IPciConfiguration.Check(offset, size);
        if (offset >= LengthOf(address)) { return uint.MaxValue >> (32 - 8 * size); }
        ushort data = (ushort)(DataPort + (offset & 3));
        lock (ports.TwoStepAccess)
        {
            Select(address, offset);
            return size switch { 1 => ports.In8(data), 2 => ports.In16(data), _ => ports.In32(data) };
        }
    }

    /// <inheritdoc/>
    public void Write(PciAddress address, int offset, int size, uint value)
    {
        IPciConfiguration.Check(offset, size);
        if (offset >= LengthOf(address)) { return; }
        ushort data = (ushort)(DataPort + (offset & 3));
        lock (ports.TwoStepAccess)
        {
            Select(address, offset);
            switch (size)
            {
                case 1: ports.Out8(data, (byte)value); break;
                case 2: ports.Out16(data, (ushort)value); break;
                default: ports.Out32(data, value); break;
            }
        }
    }

    private void Select(PciAddress address, int offset) =>
        ports.Out32(AddressPort, Enable | ((uint)address.Requester.Value << 8) | ((uint)offset & 0xFC));
}
