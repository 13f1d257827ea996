using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Sluice;

// Two words in one access. A processor with AVX loads and stores 16 aligned bytes of ordinary memory as one access
// (Intel SDM volume 3A, 10.1.1 "Guaranteed Atomic Operations"; AMD states the same). No other processor is relied on.
public readonly unsafe partial struct PhysicalMemory
{
    private const int WideBytes = 16;

    /// <summary>Whether this processor loads and stores 16 aligned bytes in one access.</summary>
    public static bool HasAtomic128 => Avx.IsSupported;

    /// <inheritdoc/>
    public bool TryRead128(PhysicalAddress address, out ulong low, out ulong high)
    {
        byte* p = FindWide(address.Value, write: false);
        if (p == null)
        {
            (low, high) = (0, 0);
            return false;
        }
        Vector128<ulong> both = LoadOnce((ulong*)p);
        (low, high) = (both.GetElement(0), both.GetElement(1));
        return true;
    }

    /// <inheritdoc/>
    public bool TryWrite128(PhysicalAddress address, ulong low, ulong high)
    {
        byte* p = FindWide(address.Value, write: true);
        if (p == null) { return false; }
        Sse2.StoreAligned((ulong*)p, Vector128.Create(low, high));
        return true;
    }

    // Not inlined: a compiler that sees which elements are wanted may load each one by itself.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Vector128<ulong> LoadOnce(ulong* p) => Sse2.LoadAlignedVector128(p);

    private byte* FindWide(ulong address, bool write)
    {
        if (!HasAtomic128 || (address & (WideBytes - 1)) != 0) { return null; }
        byte* p = Find(address, WideBytes, write);
        return ((nuint)p & (WideBytes - 1)) == 0 ? p : null;
    }
}
