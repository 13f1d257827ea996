using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Sluice.Formats.PageTables;

public static partial class PageTable<TFormat>
{
    /// <summary>
    /// A run of entries where memory can be had as a span, so that a range check is paid once per run and not per
    /// entry; empty where it cannot, or where a single entry is not worth it. One of the two spans is used, the other
    /// stays empty; entries are in memory's byte order.
    /// </summary>
    private readonly ref struct EntrySpan(Span<byte> bytes)
    {
        private readonly Span<ulong> _words = TFormat.EntrySizeLog2 == 3
            ? MemoryMarshal.Cast<byte, ulong>(bytes)
            : default;

        private readonly Span<uint> _halves = TFormat.EntrySizeLog2 == 2
            ? MemoryMarshal.Cast<byte, uint>(bytes)
            : default;

        public int Length => _words.Length + _halves.Length;

        public static EntrySpan Of<TMemory>(TMemory memory, PhysicalAddress table, ulong index, int count)
            where TMemory : struct, IPhysicalMemory
        {
            // The compiler sees the struct type and drops test and box.
            return typeof(TMemory) == typeof(PhysicalMemory) && count > 1 && table.IsAligned(TFormat.EntrySizeLog2)
                && ((PhysicalMemory)(object)memory).TryGetSpan(
                    table + (index << TFormat.EntrySizeLog2), count << TFormat.EntrySizeLog2, out Span<byte> bytes)
                ? new(bytes)
                : default;
        }

        /// <summary>The first entry that is not all zeros; the length when there is none.</summary>
        public int FirstNonZero()
        {
            int first = TFormat.EntrySizeLog2 == 3 ? _words.IndexOfAnyExcept(0UL) : _halves.IndexOfAnyExcept(0U);
            return first < 0 ? Length : first;
        }

        /// <summary>Writes one leaf's item, or one leaf, into every entry.</summary>
        public void Fill<TPages>(TPages pages, ulong distance, DmaAccess access, int level, int size)
            where TPages : struct, IPageSource, allows ref struct
        {
            if (TFormat.EntrySizeLog2 == 3) { FillWords(_words, pages, distance, access, level, size); }
            else { FillHalves(_halves, pages, distance, access, level, size); }
        }

        /// <summary>
        /// Clears absent entries and leaves of the smallest page from <paramref name="start"/> up to a larger one.
        /// </summary>
        /// <returns>How many entries that were.</returns>
        public int Clear(int start, ref ulong pages) =>
            Length == 0 ? 0 : TFormat.EntrySizeLog2 == 3
                ? ClearWords(_words[start..], ref pages)
                : ClearHalves(_halves[start..], ref pages);
    }

    // The loops are methods of their own: inside a larger one, compiled after many mappings of one page, their counters
    // would live in memory.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void FillWords<TPages>(Span<ulong> words, TPages pages, ulong distance, DmaAccess access, int level,
        int size)
        where TPages : struct, IPageSource, allows ref struct
    {
        ulong step = 1UL << Shift(level);
        foreach (ref ulong word in words)
        {
            Volatile.Write(ref word, Word(TFormat.Leaf(pages[distance], access, level, size)));
            distance += step;
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void FillHalves<TPages>(Span<uint> halves, TPages pages, ulong distance, DmaAccess access,
        int level, int size)
        where TPages : struct, IPageSource, allows ref struct
    {
        ulong step = 1UL << Shift(level);
        foreach (ref uint half in halves)
        {
            Volatile.Write(ref half, Half((uint)TFormat.Leaf(pages[distance], access, level, size)));
            distance += step;
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int ClearWords(Span<ulong> words, ref ulong pages)
    {
        ulong cleared = 0;
        int i = 0;
        for (; i < words.Length; i++)
        {
            ulong entry = Word(words[i]);
            if (!TFormat.IsPresent(entry)) { continue; }
            if (!IsSmallest(entry)) { break; }
            Volatile.Write(ref words[i], 0);
            cleared++;
        }
        pages += cleared;
        return i;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int ClearHalves(Span<uint> halves, ref ulong pages)
    {
        // Formats of 32-bit entries have one page size.
        ulong cleared = 0;
        foreach (ref uint half in halves)
        {
            if (!TFormat.IsPresent(Half(half))) { continue; }
            Volatile.Write(ref half, 0);
            cleared++;
        }
        pages += cleared;
        return halves.Length;
    }

    /// <summary>Between an entry and its word in memory; the same function both ways.</summary>
    private static ulong Word(ulong entry) => TFormat.BigEndian ? BinaryPrimitives.ReverseEndianness(entry) : entry;

    /// <summary>Between an entry and its 32-bit word in memory; the same function both ways.</summary>
    private static uint Half(uint entry) => TFormat.BigEndian ? BinaryPrimitives.ReverseEndianness(entry) : entry;
}
