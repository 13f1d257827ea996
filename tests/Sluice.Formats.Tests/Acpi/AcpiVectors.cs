namespace Sluice.Formats.Tests.Acpi;

/// <summary>
/// Tables typed byte by byte from the layouts of the specifications; only the checksum is computed, by <see
/// cref="Seal"/>.
/// </summary>
internal static class AcpiVectors
{
    /// <summary>
    /// A DMAR with every kind of structure: a unit with two scopes (an I/O APIC whose enumeration id differs from its
    /// start bus, and an endpoint behind a bridge), a unit for all the rest, a reserved region, root ports, affinity, a
    /// named device, caches, properties.
    /// </summary>
    public static byte[] Dmar() => Seal(
        """
        44 4D 41 52  00 00 00 00  01 00  53 4C 55 49 43 45
        54 45 53 54 54 41 42 4C  01 00 00 00  53 4C 55 43  01 00 00 00
        26 05  00 00 00 00 00 00 00 00 00 00
        00 00 20 00  00 00 01 00  00 00 D9 FE 00 00 00 00
              03 08 00 00 02 F0 1F 00
              01 08 00 00 00 3A 1C 04
        00 00 10 00  01 02 00 00  00 10 D9 FE 00 00 00 00
        01 00 22 00  00 00 00 00  00 00 80 7B 00 00 00 00  FF FF 9F 7B 00 00 00 00
              01 0A 00 00 00 00 1C 00 02 01
        02 00 10 00  01 00 00 00
              02 08 00 00 00 00 1D 00
        03 00 14 00  00 00 00 00  00 00 D9 FE 00 00 00 00  01 00 00 00
        04 00 12 00  00 00 00 07  5C 5F 53 42 2E 49 32 43 30 00
        05 00 10 00  01 00 00 00
              01 08 00 00 00 00 02 00
        06 00 10 00  00 00 03 00
              01 08 80 00 00 00 04 00
        """);

    /// <summary>Two windows, the second for buses 0x80 to 0xFF of segment 1.</summary>
    public static byte[] Mcfg() => Seal(
        """
        4D 43 46 47  00 00 00 00  01 00  53 4C 55 49 43 45
        54 45 53 54 54 41 42 4C  01 00 00 00  53 4C 55 43  01 00 00 00
        00 00 00 00 00 00 00 00
        00 00 00 B0 00 00 00 00  00 00 00 FF  00 00 00 00
        00 00 00 00 40 00 00 00  01 00 80 FF  00 00 00 00
        """);

    public static byte[] Root(string signature, params ulong[] tables)
    {
        List<byte> bytes = [.. System.Text.Encoding.ASCII.GetBytes(signature), .. new byte[32]];
        foreach (ulong table in tables)
        {
            bytes.AddRange(BitConverter.GetBytes(table)[..(signature == "XSDT" ? 8 : 4)]);
        }
        return Seal([.. bytes]);
    }

    public static byte[] RootPointer(uint rsdt, ulong xsdt)
    {
        byte[] bytes = new byte[36];
        "RSD PTR "u8.CopyTo(bytes);
        bytes[15] = 2;
        BitConverter.TryWriteBytes(bytes.AsSpan(16), rsdt);
        bytes[20] = 36;
        BitConverter.TryWriteBytes(bytes.AsSpan(24), xsdt);
        bytes[8] = Missing(bytes.AsSpan(0, 20));
        bytes[32] = Missing(bytes);
        return bytes;
    }

    /// <summary>Fills in length and checksum.</summary>
    public static byte[] Seal(byte[] bytes)
    {
        BitConverter.TryWriteBytes(bytes.AsSpan(4), bytes.Length);
        bytes[9] = 0;
        bytes[9] = Missing(bytes);
        return bytes;
    }

    private static byte[] Seal(string hex) =>
        Seal(Convert.FromHexString(string.Concat(hex.Where(c => !char.IsWhiteSpace(c)))));

    private static byte Missing(ReadOnlySpan<byte> bytes)
    {
        int sum = 0;
        foreach (byte b in bytes) { sum += b; }
        return (byte)-sum;
    }
}
