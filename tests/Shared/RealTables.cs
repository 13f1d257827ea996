using System.Buffers.Binary;

namespace Sluice.Testing;

/// <summary>
/// Firmware tables of real machines. They are not in this repository; where a folder with them lies beside the checkout
/// (<c>../shared/data/acpi</c>) tests use them, and skip where there is none.
/// </summary>
internal static class RealTables
{
    /// <summary>The tables in one folder, by name; skips the test that asks where there are none.</summary>
    public static IReadOnlyList<(string Name, byte[] Bytes)> Of(string kind)
    {
        string folder = CheckoutFolder.At("..", "shared", "data", "acpi", kind);
        Assert.SkipUnless(Directory.Exists(folder), $"no tables of real machines in ../shared/data/acpi/{kind}");
        return
        [
            .. Directory.EnumerateFiles(folder, "*.bin").Order(StringComparer.Ordinal)
                .Select(static path => (Path.GetFileName(path), File.ReadAllBytes(path))),
        ];
    }
}

/// <summary>One structure of a DMAR table, decoded a second time: from the layout and not from the parser.</summary>
/// <param name="Type">0 unit, 1 reserved memory, 4 named device, and the others.</param>
/// <param name="Bytes">The structure.</param>
internal sealed record NaiveStructure(int Type, byte[] Bytes)
{
    public int U8(int at) => Bytes[at];

    public int U16(int at) => BinaryPrimitives.ReadUInt16LittleEndian(Bytes.AsSpan(at));

    public ulong U64(int at) => BinaryPrimitives.ReadUInt64LittleEndian(Bytes.AsSpan(at));

    /// <summary>Type, flags, enumeration id, start bus and path of each device scope.</summary>
    public IEnumerable<(int Type, int Flags, int Id, int Bus, byte[] Path)> Scopes
    {
        get
        {
            int at = Type switch { 0 => 16, 1 => 24, 3 or 4 => Bytes.Length, _ => 8 };
            while (at < Bytes.Length)
            {
                int length = Bytes[at + 1];
                yield return (Bytes[at], Bytes[at + 2], Bytes[at + 4], Bytes[at + 5], Bytes[(at + 6)..(at + length)]);
                at += length;
            }
        }
    }

    /// <summary>The structures of a sound table.</summary>
    public static List<NaiveStructure> Of(byte[] table)
    {
        List<NaiveStructure> all = [];
        int end = BinaryPrimitives.ReadInt32LittleEndian(table.AsSpan(4));
        for (int at = 48; at < end;)
        {
            int length = BinaryPrimitives.ReadUInt16LittleEndian(table.AsSpan(at + 2));
            all.Add(new(table[at], table[at..(at + length)]));
            at += length;
        }
        return all;
    }
}
