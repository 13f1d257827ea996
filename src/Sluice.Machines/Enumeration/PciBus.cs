using System.Numerics;

namespace Sluice.Machines;

/// <summary>
/// What operating-system code does with PCI first: find the functions, size their BARs, give them addresses.
/// </summary>
/// <remarks>Uses <see cref="IPlatform"/> and nothing else, so it runs on any machine with q35's BAR window.</remarks>
public static class PciBus
{
    private const int BridgeHeader = 1;
    private const int SecondaryBus = 0x19;

    /// <summary>
    /// All functions, depth first in order of their addresses, following the bridges that firmware has numbered. A
    /// memory BAR without an address gets one in the BAR window; one that has an address keeps it. Bus mastering stays
    /// as it is: off after power on.
    /// </summary>
    /// <exception cref="MachineException">The BAR window is full.</exception>
    public static IReadOnlyList<PciFunction> Enumerate(IPlatform platform)
    {
        ArgumentNullException.ThrowIfNull(platform);
        ConfigAccess access = ConfigAccess.Find(platform);
        List<PciFunction> found = [];
        Scan(platform, access, 0, found, new bool[256]);
        Assign(found);
        return found;
    }

    // Every bus at most once, however many bridges claim to lead there, and from each only to higher ones.
    private static void Scan(IPlatform platform, ConfigAccess access, int bus, List<PciFunction> found, bool[] seen)
    {
        if (seen[bus]) { return; }
        seen[bus] = true;
        for (int device = 0; device < 32; device++)
        {
            int functions = 1;
            for (int function = 0; function < functions; function++)
            {
                PciAddress address = PciAddress.From(bus, device, function);
                if (access.Read(address, PciConfig.Vendor, 2) == 0xFFFF) { continue; }
                uint header = access.Read(address, PciConfig.HeaderType, 1);
                if ((header & PciConfig.MultiFunction) != 0) { functions = 8; }
                bool isBridge = (header & 0x7F) == BridgeHeader;
                found.Add(new(platform, access, address, SizeBars(access, address, isBridge ? 2 : PciConfig.BarCount)));
                int below = isBridge ? (int)access.Read(address, SecondaryBus, 1) : 0;
                if (below > bus) { Scan(platform, access, below, found, seen); }
            }
        }
    }

    private static List<PciBarWindow> SizeBars(ConfigAccess access, PciAddress function, int count)
    {
        // Decoding is off while the BARs hold nonsense.
        ushort command = (ushort)access.Read(function, PciConfig.Command, 2);
        access.Write16(function, PciConfig.Command, (ushort)(command & ~PciConfig.CommandMemory));
        List<PciBarWindow> bars = [];
        for (int index = 0; index < count; index++)
        {
            int offset = PciConfig.FirstBar + index * 4;
            uint before = access.Read32(function, offset);
            uint low = SizeOne(access, function, offset, before);
            if (low == 0 || (before & PciConfig.BarIo) != 0) { continue; }
            bool is64Bit = (before & PciConfig.Bar64) != 0 && index + 1 < count;
            ulong mask = 0xFFFF_FFFF_0000_0000 | (low & ~0xFu);
            ulong address = before & ~0xFu;
            if (is64Bit)
            {
                uint upper = access.Read32(function, offset + 4);
                mask = ((ulong)SizeOne(access, function, offset + 4, upper) << 32) | (uint)mask;
                address |= (ulong)upper << 32;
            }
            ulong size = mask & (0 - mask);
            // No device decodes the address bits below its size, whatever it answers.
            if (size != 0) { bars.Add(new(index, size, is64Bit, new(address & ~(size - 1)))); }
            if (is64Bit) { index++; }
        }
        access.Write16(function, PciConfig.Command, command);
        return bars;
    }

    private static uint SizeOne(ConfigAccess access, PciAddress function, int offset, uint before)
    {
        access.Write32(function, offset, uint.MaxValue);
        uint size = access.Read32(function, offset);
        access.Write32(function, offset, before);
        return size;
    }

    /// <summary>
    /// The largest first, each on a multiple of its size: no gaps but those at addresses taken already.
    /// </summary>
    private static void Assign(List<PciFunction> functions)
    {
        (PciFunction Function, PciBarWindow Bar)[] all =
            [.. functions.SelectMany(static f => f.Bars, static (f, b) => (f, b))];
        List<PhysicalRange> taken = [.. all.Where(static x => x.Bar.First.Value != 0).Select(static x => x.Bar.Range)];
        var open = all.Where(static x => x.Bar.First.Value == 0).OrderByDescending(static x => x.Bar.Size);
        foreach ((PciFunction function, PciBarWindow bar) in open)
        {
            PhysicalAddress address = Place(bar.Size, taken);
            taken.Add(PhysicalRange.FromLength(address, bar.Size));
            function.SetBar(bar, address);
        }
    }

    private static PhysicalAddress Place(ulong size, List<PhysicalRange> taken)
    {
        PhysicalAddress at = MachineMap.BarWindow.First;
        int sizeLog2 = BitOperations.Log2(size);
        while (true)
        {
            at = (at + (size - 1)).AlignDown(sizeLog2);
            if (at + (size - 1) > MachineMap.BarWindow.Last)
            {
                throw new MachineException($"no room for a BAR of 0x{size:X} bytes");
            }
            PhysicalRange range = PhysicalRange.FromLength(at, size);
            int hit = taken.FindIndex(t => t.Overlaps(range));
            if (hit < 0) { return at; }
            at = taken[hit].Last + 1;
        }
    }
}
