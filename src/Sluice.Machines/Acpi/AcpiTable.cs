using System.Buffers.Binary;
using System.Text;

namespace Sluice.Machines;

/// <summary>Builds one ACPI table: the 36-byte header, fields in order, then length and checksum.</summary>
/// <remarks>ACPI specification 6.5, 5.2.6. All fields are little-endian and packed.</remarks>
internal sealed class AcpiTable
{
    private const int HeaderLength = 36;
    private const int LengthOffset = 4;
    private const int ChecksumOffset = 9;
    private readonly List<byte> _bytes = new(256);

    public AcpiTable(string signature, byte revision)
    {
        Text(signature, 4);
        U32(0);
        U8(revision);
        U8(0);
        Text("SLUICE", 6);
        Text("Q35", 8);
        U32(1);
        Text("SLCE", 4);
        U32(1);
    }

    public int Length => _bytes.Count;

    public AcpiTable U8(int value)
    {
        _bytes.Add((byte)value);
        return this;
    }

    public AcpiTable U16(int value) => U8(value).U8(value >> 8);

    public AcpiTable U32(uint value) => U16((ushort)value).U16((ushort)(value >> 16));

    public AcpiTable U64(ulong value) => U32((uint)value).U32((uint)(value >> 32));

    public AcpiTable Zeros(int count)
    {
        _bytes.AddRange(new byte[count]);
        return this;
    }

    /// <summary>Exactly <paramref name="length"/> bytes, padded with blanks.</summary>
    public AcpiTable Text(string text, int length)
    {
        _bytes.AddRange(Encoding.ASCII.GetBytes(text.PadRight(length)));
        return this;
    }

    /// <summary>The finished table.</summary>
    public byte[] Build()
    {
        byte[] table = [.. _bytes];
        if (table.Length < HeaderLength) { throw new InvalidOperationException("an ACPI table has a header"); }
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(LengthOffset), (uint)table.Length);
        table[ChecksumOffset] = Checksum(table);
        return table;
    }

    /// <summary>The byte that makes the sum of all bytes zero.</summary>
    public static byte Checksum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte b in bytes) { sum += b; }
        return (byte)-sum;
    }
}
