using System.Buffers.Binary;

namespace Sluice.Machines;

/// <summary>
/// Finds ECAM of segment 0 through RSDP, XSDT and MCFG. Damaged tables are as good as none: ports work without.
/// </summary>
/// <remarks>ACPI 6.5, 5.2.5.1 (search), 5.2.8 (XSDT); PCI Firmware 3.3, 4.1.2 (MCFG).</remarks>
internal static class McfgFinder
{
    private const ulong SearchFirst = 0xE_0000;
    private const ulong SearchEnd = 0x10_0000;
    private const int HeaderLength = 36;
    private const int RsdpLength = 36;
    private const uint LongestTable = 0x1_0000;

    public static bool TryFind(PhysicalMemory memory, out PhysicalAddress ecam)
    {
        ecam = default;
        if (!TryFindXsdt(memory, out PhysicalAddress xsdt) || !TryRead(memory, xsdt, "XSDT"u8, out byte[] root))
        {
            return false;
        }
        for (int at = HeaderLength; at + sizeof(ulong) <= root.Length; at += sizeof(ulong))
        {
            PhysicalAddress table = new(BinaryPrimitives.ReadUInt64LittleEndian(root.AsSpan(at)));
            if (TryRead(memory, table, "MCFG"u8, out byte[] mcfg) && TryGetSegmentZero(mcfg, out ecam)) { return true; }
        }
        return false;
    }

    private static bool TryFindXsdt(PhysicalMemory memory, out PhysicalAddress xsdt)
    {
        Span<byte> rsdp = stackalloc byte[RsdpLength];
        for (ulong at = SearchFirst; at < SearchEnd; at += 16)
        {
            if (memory.TryRead(new(at), rsdp) && rsdp.StartsWith("RSD PTR "u8) && rsdp[15] >= 2
                && AcpiTable.Checksum(rsdp) == 0 && AcpiTable.Checksum(rsdp[..20]) == 0)
            {
                xsdt = new(BinaryPrimitives.ReadUInt64LittleEndian(rsdp[24..]));
                return true;
            }
        }
        xsdt = default;
        return false;
    }

    private static bool TryRead(
        PhysicalMemory memory, PhysicalAddress address, ReadOnlySpan<byte> signature, out byte[] table)
    {
        Span<byte> header = stackalloc byte[HeaderLength];
        table = [];
        if (!memory.TryRead(address, header) || !header.StartsWith(signature)) { return false; }
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(header[4..]);
        if (length is < HeaderLength or > LongestTable) { return false; }
        table = new byte[length];
        return memory.TryRead(address, table) && AcpiTable.Checksum(table) == 0;
    }

    private static bool TryGetSegmentZero(byte[] mcfg, out PhysicalAddress ecam)
    {
        const int FirstEntry = 44;
        const int EntryLength = 16;
        for (int at = FirstEntry; at + EntryLength <= mcfg.Length; at += EntryLength)
        {
            ReadOnlySpan<byte> entry = mcfg.AsSpan(at, EntryLength);
            if (BinaryPrimitives.ReadUInt16LittleEndian(entry[8..]) == 0 && entry[10] == 0)
            {
                ecam = new(BinaryPrimitives.ReadUInt64LittleEndian(entry));
                return true;
            }
        }
        ecam = default;
        return false;
    }
}
