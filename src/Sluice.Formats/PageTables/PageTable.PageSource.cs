using System.Numerics;
using System.Runtime.InteropServices;

namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>Where the pages of a mapping lie. Two kinds; the compiler specialises <c>Map</c> for each.</summary>
    private interface IPageSource
    {
        /// <summary>Where the byte at <paramref name="distance"/> from the mapping's start lies.</summary>
        PhysicalAddress this[ulong distance] { get; }

        /// <summary>Which of the format's page sizes may be used: bit n for 2^n bytes.</summary>
        ulong Limit(ulong pageSizes);

        /// <summary>
        /// Whether all pages of a mapping that ends at distance <paramref name="last"/> have address bits of <paramref
        /// name="allowed"/> only.
        /// </summary>
        bool AreWithin(ulong allowed, ulong last);
    }

    /// <summary>One contiguous run.</summary>
    private readonly struct ContiguousPages(PhysicalAddress first) : IPageSource
    {
        public PhysicalAddress this[ulong distance] => first + distance;

        public ulong Limit(ulong pageSizes) => pageSizes;

        public bool AreWithin(ulong allowed, ulong last)
        {
            ulong inPage = (1UL << TFormat.GranuleLog2) - 1;
            return (first.Value & ~allowed) == 0 && first + last >= first
                && ((first + last).Value & ~(allowed | inPage)) == 0;
        }
    }

    /// <summary>Pages of the smallest size, scattered.</summary>
    private readonly ref struct ScatteredPages(ReadOnlySpan<PhysicalAddress> pages) : IPageSource
    {
        private readonly ReadOnlySpan<PhysicalAddress> _pages = pages;

        public PhysicalAddress this[ulong distance] => _pages[(int)(distance >> TFormat.GranuleLog2)];

        public ulong Limit(ulong pageSizes) => 1UL << TFormat.GranuleLog2;

        public bool AreWithin(ulong allowed, ulong last)
        {
            ReadOnlySpan<ulong> words = MemoryMarshal.Cast<PhysicalAddress, ulong>(_pages);
            ReadOnlySpan<Vector<ulong>> lanes = MemoryMarshal.Cast<ulong, Vector<ulong>>(words);
            Vector<ulong> used = Vector<ulong>.Zero;
            foreach (Vector<ulong> lane in lanes) { used |= lane; }
            ulong rest = 0;
            foreach (ulong word in words[(lanes.Length * Vector<ulong>.Count)..]) { rest |= word; }
            return (rest & ~allowed) == 0 && Vector.EqualsAll(Vector.AndNot(used, new Vector<ulong>(allowed)),
                Vector<ulong>.Zero);
        }
    }
}
