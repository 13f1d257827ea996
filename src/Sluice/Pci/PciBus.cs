using System.Numerics;

namespace Sluice;

/// <summary>
/// What operating-system code does with PCI first: find the functions, size their BARs, give them addresses.
/// </summary>
/// <remarks>
/// Uses <see cref="IPlatform"/> and nothing else, so it runs on any machine. Segment 0 only. One thread at a time: the
/// BARs are written while they are sized.
/// </remarks>
public static class PciBus
{
    /// <summary>
    /// All functions, depth first in order of their addresses, following the bridges that firmware has numbered. A
    /// memory BAR without an address gets one in the BAR window (<see cref="IPlatform.BarWindow"/>), where there is
    /// one; a BAR that has an address keeps it. Bus mastering stays as it is: off after power on.
    /// </summary>
    /// <param name="platform">The machine; one without PCI has no functions.</param>
    /// <exception cref="PciException">The BAR window is full.</exception>
    public static IReadOnlyList<PciFunction> Enumerate(IPlatform platform)
    {
        ArgumentNullException.ThrowIfNull(platform);
        if (platform.Pci is not { } access) { return []; }
        List<PciFunction> found = [];
        Scan(platform, access, new(access), 0, found, new bool[256]);
        if (platform.BarWindow is { } window) { Assign(found, window); }
        return found;
    }

    // Every bus at most once, however many bridges claim to lead there, and from each only to higher ones.
    private static void Scan(
        IPlatform platform, IPciConfiguration access, PciBridges bridges, byte bus, List<PciFunction> found,
        bool[] seen)
    {
        if (seen[bus]) { return; }
        seen[bus] = true;
        foreach (PciAddress address in bridges.FunctionsOn(0, bus))
        {
            bool isBridge = bridges.IsBridge(address);
            found.Add(new(platform, access, address, SizeBars(access, address, isBridge ? 2 : PciConfig.BarCount)));
            byte below = isBridge ? bridges.Secondary(address) : (byte)0;
            if (below > bus) { Scan(platform, access, bridges, below, found, seen); }
        }
    }

    private static List<PciBarWindow> SizeBars(IPciConfiguration access, PciAddress function, int count)
    {
        // Decoding is off while the BARs hold nonsense.
        ushort command = access.Read16(function, PciConfig.Command);
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

    private static uint SizeOne(IPciConfiguration access, PciAddress function, int offset, uint before)
    {
        access.Write32(function, offset, uint.MaxValue);
        uint size = access.Read32(function, offset);
        access.Write32(function, offset, before);
        return size;
    }

    /// <summary>
    /// The largest first, each on a multiple of its size: no gaps but those at addresses taken already.
    /// </summary>
    private static void Assign(List<PciFunction> functions, PhysicalRange window)
    {
        (PciFunction Function, PciBarWindow Bar)[] all =
            [.. functions.SelectMany(static f => f.Bars, static (f, b) => (f, b))];
        List<PhysicalRange> taken = [.. all.Where(static x => x.Bar.First.Value != 0).Select(static x => x.Bar.Range)];
        var open = all.Where(static x => x.Bar.First.Value == 0).OrderByDescending(static x => x.Bar.Size);
        foreach ((PciFunction function, PciBarWindow bar) in open)
        {
            PhysicalAddress address = Place(bar.Size, window, taken);
            taken.Add(PhysicalRange.FromLength(address, bar.Size));
            function.SetBar(bar, address);
        }
    }

    private static PhysicalAddress Place(ulong size, PhysicalRange window, List<PhysicalRange> taken)
    {
        PhysicalAddress at = window.First;
        int sizeLog2 = BitOperations.Log2(size);
        while (true)
        {
            at = (at + (size - 1)).AlignDown(sizeLog2);
            if (at + (size - 1) > window.Last)
            {
                throw new PciException($"no room for a BAR of 0x{size:X} bytes");
            }
            PhysicalRange range = PhysicalRange.FromLength(at, size);
            int hit = taken.FindIndex(t => t.Overlaps(range));
            if (hit < 0) { return at; }
            at = taken[hit].Last + 1;
        }
    }
}
