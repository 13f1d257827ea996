using Sluice.Iommu.Vtd;
using static Sluice.Machines.MachineMap;

namespace Sluice.Machines;

public sealed partial class Machine
{
    private const ulong MaximumMemory = 1UL << 40;
    private const ulong AcpiBytes = 0x1_0000;

    private static void Validate(MachineOptions options)
    {
        ulong bytes = options.MemoryBytes;
        if (bytes < MinimumMemory)
        {
            throw new MachineException($"memory too small: {bytes} bytes, the least is {MinimumMemory >> 20} MiB");
        }
        if (bytes > MaximumMemory)
        {
            throw new MachineException($"memory too large: {bytes} bytes, the most is {MaximumMemory >> 40} TiB");
        }
        if (bytes % PageSize != 0) { throw new MachineException($"memory is not whole pages: {bytes} bytes"); }
        if (options.NanosecondsPerStep <= 0)
        {
            throw new MachineException("virtual time must advance: NanosecondsPerStep is not positive");
        }
        if (options.IdleSpin < TimeSpan.Zero) { throw new MachineException("IdleSpin is negative"); }
        ulong low = LowMemory(bytes);
        ulong end = bytes > low ? HighMemory.Value + bytes - low : low;
        if (options.Iommu == MachineIommu.Vtd && end > 1UL << options.Vtd.HostAddressBits)
        {
            throw new MachineException(
                $"memory too large for {options.Vtd.HostAddressBits} address bits of the unit: {bytes} bytes");
        }
        foreach (ReservedRegion region in options.ReservedRegions)
        {
            if (!region.Range.First.IsAligned(PageLog2) || !(region.Range.Last + 1).IsAligned(PageLog2))
            {
                throw new MachineException($"the reserved region {region.Range} is not whole pages");
            }
            if (region.Range.Last < region.Range.First || region.Range.Last.Value >= low)
            {
                throw new MachineException($"the reserved region {region.Range} is not in memory below 4 GiB");
            }
            if (region.Range.Overlaps(AcpiArea(options)))
            {
                throw new MachineException($"the reserved region {region.Range} overlaps the firmware's tables");
            }
        }
    }

    private static MemoryBanks BuildMemory(MachineOptions options)
    {
        ulong low = LowMemory(options.MemoryBytes);
        ulong high = options.MemoryBytes - low;
        NativeBlock block;
        try
        {
            block = NativeBlock.Allocate(options.MemoryBytes);
        }
        catch (OutOfMemoryException e)
        {
            throw new MachineException($"no {options.MemoryBytes >> 20} MiB of memory for the machine", e);
        }
        MemoryBank lowBank = new(PhysicalAddress.Zero, block, 0, low);
        return high == 0 ? new(lowBank) : new(lowBank, new MemoryBank(HighMemory, block, low, high));
    }

    private VtdUnit BuildUnit(MachineOptions options)
    {
        try
        {
            return new(options.Vtd, Memory, Interrupts);
        }
        catch (ArgumentException e)
        {
            throw new MachineException($"no VT-d unit can be built so: {e.Message}", e);
        }
    }

    /// <summary>The firmware's tables lie at the top of low memory.</summary>
    private static PhysicalRange AcpiArea(MachineOptions options) =>
        PhysicalRange.FromLength(new(LowMemory(options.MemoryBytes) - AcpiBytes), AcpiBytes);
}
