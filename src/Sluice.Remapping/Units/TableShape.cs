using System.Numerics;

namespace Sluice.Remapping.Units;

/// <summary>
/// The form of a domain's tables. Units that can walk tables of one shape are a class: a domain's devices are all
/// behind units of its class.
/// </summary>
/// <param name="Format">The page-table format.</param>
/// <param name="GranuleLog2">The size of the smallest page.</param>
/// <param name="Width">The address bits that the tables translate: it says how deep they are.</param>
/// <param name="PageSizes">The sizes of leaves that may stand in them: bit n for 2^n bytes.</param>
/// <param name="AddressBits">The address bits of what is mapped there, at most <paramref name="Width"/>.</param>
internal readonly record struct TableShape(
    string Format, int GranuleLog2, int Width, ulong PageSizes, int AddressBits)
{
    /// <summary>
    /// The shape that all of <paramref name="units"/> can walk, of the least depth that holds as many of
    /// <paramref name="addressBits"/> as they take, or else of the greatest.
    /// </summary>
    /// <param name="units">At least one.</param>
    /// <param name="addressBits">The address bits that the devices have, 1 to 64.</param>
    /// <returns>Null when they have no shape in common.</returns>
    public static TableShape? Choose(IReadOnlyList<UnitTraits> units, int addressBits)
    {
        UnitTraits first = units[0];
        (ulong widths, ulong sizes) = (first.TableWidths, first.PageSizes);
        int bits = Math.Min(addressBits, first.AddressBits);
        for (int i = 1; i < units.Count; i++)
        {
            if ((units[i].Format, units[i].GranuleLog2) != (first.Format, first.GranuleLog2)) { return null; }
            widths &= units[i].TableWidths;
            sizes &= units[i].PageSizes;
            bits = Math.Min(bits, units[i].AddressBits);
        }
        if (widths == 0 || ((sizes >> first.GranuleLog2) & 1) == 0) { return null; }
        ulong enough = widths & ~(UnitTraits.Width(bits) - 1);
        int width = 1 + (enough != 0 ? BitOperations.TrailingZeroCount(enough) : BitOperations.Log2(widths));
        return new(first.Format, first.GranuleLog2, width, sizes, Math.Min(bits, width));
    }

    /// <summary>Whether a unit can walk tables of this shape, and takes every address in them.</summary>
    /// <param name="unit">What it can do.</param>
    public bool IsWalkedBy(UnitTraits unit) => (unit.Format, unit.GranuleLog2) == (Format, GranuleLog2)
        && AddressBits <= unit.AddressBits
        && (unit.TableWidths & UnitTraits.Width(Width)) != 0 && (PageSizes & ~unit.PageSizes) == 0;
}
