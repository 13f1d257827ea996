namespace Sluice.Formats.Vtd;

/// <summary>Bit arithmetic that the VT-d entries share.</summary>
internal static class VtdWords
{
    /// <summary>The bits of an address field above a physical address width: reserved on that hardware.</summary>
    public static ulong AboveWidth(int addressBits) => addressBits >= 64 ? 0 : ~0UL << addressBits;

    /// <summary>The field of <paramref name="width"/> bits at <paramref name="shift"/>.</summary>
    public static ulong Field(this ulong word, int shift, int width) => (word >> shift) & ((1UL << width) - 1);

    /// <summary>Whether bit <paramref name="bit"/> is set.</summary>
    public static bool Bit(this ulong word, int bit) => ((word >> bit) & 1) != 0;

    /// <summary>Bit <paramref name="bit"/> set when <paramref name="value"/> is true.</summary>
    public static ulong Flag(bool value, int bit) => value ? 1UL << bit : 0;
}
