using System.Collections.Concurrent;

namespace Sluice;

/// <summary>
/// PCI configuration space in memory (ECAM): 4096 bytes a function, a window of 1 MiB for each bus, mapped when it is
/// first used. A bus that no window holds, or where nobody answers, has no functions; that is remembered too.
/// </summary>
/// <remarks>PCI Express Base 7.2.2. ECAM lies on whole buses of 1 MiB: a window that does not is passed over.</remarks>
/// <param name="platform">Whose registers they are.</param>
/// <param name="windows">In order: where several hold a bus, the first that answers has it.</param>
public sealed class PciEcam(IPlatform platform, IReadOnlyList<EcamWindow> windows) : IPciConfiguration
{
    private const int BusLog2 = 20;
    private readonly ConcurrentDictionary<(ushort Segment, byte Bus), RegisterWindow?> _buses = [];

    /// <inheritdoc/>
    public int LengthOf(PciAddress address) => BusOf(address) is null ? 0 : PciConfig.ExpressSize;

    /// <inheritdoc/>
    public uint Read(PciAddress address, int offset, int size)
    {
        IPciConfiguration.Check(offset, size);
        RegisterWindow? bus = BusOf(address);
        uint at = At(address, offset);
        return size switch
        {
            1 => bus?.Read8(at) ?? byte.MaxValue,
            2 => bus?.Read16(at) ?? ushort.MaxValue,
            _ => bus?.Read32(at) ?? uint.MaxValue,
        };
    }

    /// <inheritdoc/>
    public void Write(PciAddress address, int offset, int size, uint value)
    {
        IPciConfiguration.Check(offset, size);
        RegisterWindow? bus = BusOf(address);
        uint at = At(address, offset);
        switch (size)
        {
            case 1: bus?.Write8(at, (byte)value); break;
            case 2: bus?.Write16(at, (ushort)value); break;
            default: bus?.Write32(at, value); break;
        }
    }

    private static uint At(PciAddress address, int offset) =>
        ((uint)address.Requester.DeviceFunction << 12) | (uint)offset;

    private RegisterWindow? BusOf(PciAddress address)
    {
        (ushort, byte Bus) key = (address.Segment, address.Requester.Bus);
        if (_buses.TryGetValue(key, out RegisterWindow? known)) { return known; }
        return _buses.GetOrAdd(key, Map(new(address.Segment, RequesterId.From(key.Bus, 0, 0))));
    }

    private RegisterWindow? Map(PciAddress first)
    {
        foreach (EcamWindow window in windows)
        {
            if (!window.Base.IsAligned(BusLog2) || !window.TryLocate(first, out PhysicalAddress at)) { continue; }
            try { return platform.MapRegisters(at, 1 << BusLog2); }
            catch (ArgumentOutOfRangeException)
            {
                // Firmware says so, and nothing is there: as good as no window.
            }
        }
        return null;
    }
}
