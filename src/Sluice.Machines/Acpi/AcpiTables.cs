using System.Buffers.Binary;
using System.Numerics;
using System.Text;

namespace Sluice.Machines;

/// <summary>
/// The firmware of the machine: writes the tables by which operating-system code finds everything. Only the machine
/// writes them; whoever reads them uses another implementation, so that the two check each other.
/// </summary>
/// <remarks>RSDP → XSDT → FADT (→ DSDT), MADT, MCFG, and DMAR when there is a unit. ACPI 6.5, 5.2; VT-d 8.</remarks>
internal static class AcpiTables
{
    private const ulong Alignment = 64;

    /// <summary>Writes all of them: the RSDP where it is searched for, the rest into <paramref name="area"/>.</summary>
    /// <param name="memory">The machine's.</param>
    /// <param name="area">Memory that no frame is handed out of.</param>
    /// <param name="options">What to describe.</param>
    /// <param name="unitBytes">The size of the unit's register window; 0 without a unit.</param>
    public static void Write(PhysicalMemory memory, PhysicalRange area, MachineOptions options, uint unitBytes)
    {
        PhysicalAddress next = area.First;
        PhysicalAddress dsdt = Put(memory, ref next, area, Dsdt());
        List<PhysicalAddress> tables = [];
        foreach (byte[] table in (byte[][])[Fadt(dsdt), Madt(), Mcfg()])
        {
            tables.Add(Put(memory, ref next, area, table));
        }
        if (unitBytes != 0) { tables.Add(Put(memory, ref next, area, Dmar(options, unitBytes))); }
        PhysicalAddress xsdt = Put(memory, ref next, area, Xsdt(tables));
        memory.TryWrite(MachineMap.Rsdp, Rsdp(xsdt));
    }

    /// <summary>Revision 2: 36 bytes, the first 20 with a checksum of their own.</summary>
    public static byte[] Rsdp(PhysicalAddress xsdt)
    {
        byte[] rsdp = new byte[36];
        Encoding.ASCII.GetBytes("RSD PTR ").CopyTo(rsdp, 0);
        Encoding.ASCII.GetBytes("SLUICE").CopyTo(rsdp, 9);
        rsdp[15] = 2;
        BinaryPrimitives.WriteUInt32LittleEndian(rsdp.AsSpan(20), (uint)rsdp.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(rsdp.AsSpan(24), xsdt.Value);
        rsdp[8] = AcpiTable.Checksum(rsdp.AsSpan(0, 20));
        rsdp[32] = AcpiTable.Checksum(rsdp);
        return rsdp;
    }

    public static byte[] Xsdt(IEnumerable<PhysicalAddress> tables)
    {
        AcpiTable table = new("XSDT", 1);
        foreach (PhysicalAddress entry in tables) { table.U64(entry.Value); }
        return table.Build();
    }

    /// <summary>A DSDT without a line of byte code: nothing here has a power button.</summary>
    public static byte[] Dsdt() => new AcpiTable("DSDT", 2).Build();

    /// <summary>
    /// Hardware-reduced: no fixed registers, so nothing but flags and the DSDT's address means anything.
    /// </summary>
    public static byte[] Fadt(PhysicalAddress dsdt)
    {
        const int Length = 276;
        const int FlagsOffset = 112;
        const int MinorVersionOffset = 131;
        const int WideDsdtOffset = 140;
        const uint HardwareReduced = 1 << 20;
        AcpiTable table = new AcpiTable("FACP", 6).U32(0).U32((uint)dsdt.Value);
        table.Zeros(FlagsOffset - table.Length).U32(HardwareReduced);
        table.Zeros(MinorVersionOffset - table.Length).U8(5);
        table.Zeros(WideDsdtOffset - table.Length).U64(dsdt.Value);
        return table.Zeros(Length - table.Length).Build();
    }

    /// <summary>One processor with a local APIC, and no I/O APIC: all interrupts are messages.</summary>
    public static byte[] Madt()
    {
        // A processor sees its local APIC where devices see the window.
        uint localApic = (uint)MachineMap.InterruptWindow.First.Value;
        const uint Enabled = 1;
        return new AcpiTable("APIC", 5).U32(localApic).U32(0)
            .U8(0).U8(8).U8(0).U8(0).U32(Enabled)
            .Build();
    }

    /// <summary>ECAM of segment 0, buses 0 to 255.</summary>
    public static byte[] Mcfg() => new AcpiTable("MCFG", 1).Zeros(8)
        .U64(MachineMap.Ecam.First.Value).U16(0).U8(0).U8(255).Zeros(4)
        .Build();

    /// <summary>One unit over all devices of segment 0, then the reserved regions.</summary>
    public static byte[] Dmar(MachineOptions options, uint unitBytes)
    {
        const int UnitType = 0;
        const int ReservedMemoryType = 1;
        const int IncludeAll = 1;
        const int EndpointScope = 1;
        const int ScopeLength = 8;
        int pagesLog2 = BitOperations.Log2(BitOperations.RoundUpToPowerOf2(unitBytes) >> MachineMap.PageLog2);
        AcpiTable table = new AcpiTable("DMAR", 1).U8(options.Vtd.HostAddressBits - 1).U8(options.DmarFlags).Zeros(10);
        table.U16(UnitType).U16(16).U8(IncludeAll).U8(pagesLog2).U16(0).U64(MachineMap.RemappingUnit.Value);
        foreach (ReservedRegion region in options.ReservedRegions)
        {
            table.U16(ReservedMemoryType).U16(24 + region.Devices.Count * ScopeLength).U16(0)
                .U16(region.Devices.Count > 0 ? region.Devices[0].Segment : 0)
                .U64(region.Range.First.Value).U64(region.Range.Last.Value);
            foreach (PciAddress device in region.Devices)
            {
                RequesterId id = device.Requester;
                table.U8(EndpointScope).U8(ScopeLength).U16(0).U8(0).U8(id.Bus).U8(id.Device).U8(id.Function);
            }
        }
        return table.Build();
    }

    private static PhysicalAddress Put(
        PhysicalMemory memory, ref PhysicalAddress next, PhysicalRange area, byte[] table)
    {
        PhysicalAddress here = next;
        if (here + (ulong)table.Length > area.Last || !memory.TryWrite(here, table))
        {
            throw new MachineException("too many reserved regions: the firmware's tables do not fit");
        }
        next = new((here.Value + (ulong)table.Length + Alignment - 1) & ~(Alignment - 1));
        return here;
    }
}
