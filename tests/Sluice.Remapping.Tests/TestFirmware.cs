using System.Buffers.Binary;

namespace Sluice.Remapping.Tests;

/// <summary>Firmware tables written by hand, byte by byte.</summary>
internal static class TestFirmware
{
    public const ulong UsualRoot = 0xF_0010;

    /// <summary>Writes a root pointer and tables; what was written before is found no more.</summary>
    public static void Write(PhysicalMemory memory, byte[] dmar, byte[]? mcfg = null, ulong root = UsualRoot)
    {
        const ulong Xsdt = 0xE_1000;
        const ulong DmarAddress = 0xE_2000;
        const ulong McfgAddress = 0xE_8000;
        byte[] rsdp = new byte[36];
        "RSD PTR "u8.CopyTo(rsdp);
        rsdp[15] = 2;
        rsdp[20] = 36;
        BinaryPrimitives.WriteUInt64LittleEndian(rsdp.AsSpan(24), Xsdt);
        rsdp[8] = Sum(rsdp.AsSpan(0, 20));
        rsdp[32] = Sum(rsdp);
        byte[] xsdt = new byte[mcfg is null ? 44 : 52];
        "XSDT"u8.CopyTo(xsdt);
        xsdt[4] = (byte)xsdt.Length;
        BinaryPrimitives.WriteUInt64LittleEndian(xsdt.AsSpan(36), DmarAddress);
        if (mcfg is not null) { BinaryPrimitives.WriteUInt64LittleEndian(xsdt.AsSpan(44), McfgAddress); }
        Seal(xsdt);
        Assert.True(memory.TryWrite(new(root), rsdp));
        Assert.True(memory.TryWrite(new(Xsdt), xsdt));
        Assert.True(memory.TryWrite(new(DmarAddress), dmar));
        Assert.True(memory.TryWrite(new(McfgAddress), mcfg ?? []));
    }

    public static byte[] Dmar(params byte[] structures)
    {
        byte[] table = [.. "DMAR"u8, .. new byte[44], .. structures];
        BinaryPrimitives.WriteInt32LittleEndian(table.AsSpan(4), table.Length);
        table[36] = 38;
        Seal(table);
        return table;
    }

    /// <summary>Configuration space of one segment, all buses.</summary>
    public static byte[] Mcfg(ulong at, ushort segment)
    {
        byte[] table = [.. "MCFG"u8, .. new byte[56]];
        table[4] = 60;
        BinaryPrimitives.WriteUInt64LittleEndian(table.AsSpan(44), at);
        BinaryPrimitives.WriteUInt16LittleEndian(table.AsSpan(52), segment);
        table[55] = 0xFF;
        Seal(table);
        return table;
    }

    public static byte[] Unit(byte flags, ushort segment, ulong registers, params byte[] scopes)
    {
        byte[] head = new byte[16];
        BinaryPrimitives.WriteInt16LittleEndian(head.AsSpan(2), (short)(16 + scopes.Length));
        head[4] = flags;
        BinaryPrimitives.WriteUInt16LittleEndian(head.AsSpan(6), segment);
        BinaryPrimitives.WriteUInt64LittleEndian(head.AsSpan(8), registers);
        return [.. head, .. scopes];
    }

    public static byte[] Region(ulong first, ulong last, params byte[] scopes)
    {
        byte[] head = new byte[24];
        head[0] = 1;
        BinaryPrimitives.WriteInt16LittleEndian(head.AsSpan(2), (short)(24 + scopes.Length));
        BinaryPrimitives.WriteUInt64LittleEndian(head.AsSpan(8), first);
        BinaryPrimitives.WriteUInt64LittleEndian(head.AsSpan(16), last);
        return [.. head, .. scopes];
    }

    public static byte[] Scope(byte type, byte bus, params byte[] path) =>
        [type, (byte)(6 + path.Length), 0, 0, 9, bus, .. path];

    public static void Seal(byte[] table)
    {
        table[9] = 0;
        table[9] = Sum(table);
    }

    private static byte Sum(ReadOnlySpan<byte> bytes)
    {
        int sum = 0;
        foreach (byte value in bytes) { sum += value; }
        return (byte)-sum;
    }
}
