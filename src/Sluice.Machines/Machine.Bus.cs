namespace Sluice.Machines;

/// <summary>Who answers for a run of addresses on the processor's bus.</summary>
/// <param name="Length">How long the run is, at least a byte.</param>
/// <param name="IsMemory">Memory does.</param>
/// <param name="Registers">Somebody's registers do: a window of just this run. Null where nobody answers.</param>
internal readonly record struct BusPart(uint Length, bool IsMemory, RegisterWindow? Registers);

// Looking up who answers where: never throws, because clients ask about any address.
public sealed partial class Machine
{
    /// <summary>Who answers at an address, for how many of <paramref name="length"/> bytes.</summary>
    internal BusPart FindOnBus(PhysicalAddress first, uint length)
    {
        ulong most = length;
        foreach (MemoryBank bank in Memory.Banks)
        {
            if (Reaches(bank.Range, first, ref most)) { return new((uint)most, IsMemory: true, null); }
        }
        return FindRegisters(first, (uint)most);
    }

    /// <summary>The same without memory: whose registers answer, or for how many bytes nobody's do.</summary>
    private BusPart FindRegisters(PhysicalAddress first, uint length)
    {
        ulong most = length;
        if (_pci.Ecam is { } ecam && Reaches(ecam, first, ref most))
        {
            return new((uint)most, IsMemory: false, new EcamRegisterWindow(_pci, first, (uint)most));
        }
        if (Unit is not null
            && Reaches(PhysicalRange.FromLength(MachineMap.RemappingUnit, Unit.Registers.Length), first, ref most))
        {
            uint start = (uint)(first - MachineMap.RemappingUnit);
            return new((uint)most, IsMemory: false, new SubWindow(Unit.Registers, start, (uint)most));
        }
        foreach (PciDevice device in _pci.Functions)
        {
            foreach (PciBar? bar in device.Bars)
            {
                if (bar?.Range is { } range && Reaches(range, first, ref most))
                {
                    return new((uint)most, IsMemory: false,
                        new BarRegisterWindow(device, bar, first.Value, (uint)most));
                }
            }
        }
        return new((uint)most, IsMemory: false, null);
    }

    /// <summary>
    /// Whether <paramref name="range"/> has the address; cuts <paramref name="most"/> at its end, or else where it
    /// begins.
    /// </summary>
    private static bool Reaches(PhysicalRange range, PhysicalAddress first, ref ulong most)
    {
        bool has = range.Contains(first);
        if (has) { most = Math.Min(most - 1, range.Last - first) + 1; }
        else if (range.First > first) { most = Math.Min(most, range.First - first); }
        return has;
    }
}
