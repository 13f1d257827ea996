namespace Sluice;

/// <summary>The configuration space of some buses of one segment, 4 KiB per function.</summary>
/// <param name="Base">Where bus 0 would lie, whatever <paramref name="FirstBus"/> is.</param>
/// <param name="Segment">The PCI segment.</param>
/// <param name="FirstBus">The first bus in it.</param>
/// <param name="LastBus">The last bus in it, not below the first.</param>
public readonly record struct EcamWindow(PhysicalAddress Base, ushort Segment, byte FirstBus, byte LastBus)
{
    private const int BusLog2 = 20;

    /// <summary>
    /// Where a function's 4 KiB lie; false when it is of another segment or bus, or the 1 MiB of its bus would run over
    /// the end of all addresses.
    /// </summary>
    /// <param name="function">Which function.</param>
    /// <param name="first">Of its bytes; what it would be also when the answer is false.</param>
    public bool TryLocate(PciAddress function, out PhysicalAddress first)
    {
        RequesterId requester = function.Requester;
        first = Base + ((ulong)requester.Value << 12);
        return function.Segment == Segment && requester.Bus >= FirstBus && requester.Bus <= LastBus
            && Base.Value <= ulong.MaxValue - (((requester.Bus + 1UL) << BusLog2) - 1);
    }
}
