using System.Numerics;

namespace Sluice.Dma;

/// <summary>
/// Where the mappings of one table lie, one word for each, so that the few near an address are found without looking at
/// the others. A record's owner writes its word; anyone may search, and must then look at the record itself.
/// <code>
///  63                              19  18  17              0
/// ┌──────────────────────────────────┬────┬─────────────────┐    G: gone. Pages: with the closed ones behind; all ones
/// │   first logical page             │ G  │      pages      │    also for more, which then reaches to the end
/// └──────────────────────────────────┴────┴─────────────────┘
/// </code>
/// </summary>
/// <remarks>
/// A hash by page would cost the data path a store for each page. This costs one for each mapping, and a search reads
/// eight bytes a record, several records at once: a third of a microsecond for a thousand.
/// </remarks>
internal sealed class ReachIndex
{
    private const int FirstShift = 19;
    private const ulong GoneBit = 1UL << 18;
    private const ulong MostPages = GoneBit - 1;
    private ulong[][] _chunks = [];

    /// <summary>The word of what takes up <paramref name="footprint"/>.</summary>
    internal static ulong Pack(in Footprint footprint)
    {
        ulong first = footprint.Pages.First.Value >> 12;
        LogicalAddress last = footprint.GuardLast > footprint.Pages.Last ? footprint.GuardLast : footprint.Pages.Last;
        return (first << FirstShift) | Math.Min((last.Value >> 12) - first + 1, MostPages);
    }

    /// <summary>The word of the same mapping when it is gone.</summary>
    internal static ulong Gone(ulong word) => word | GoneBit;

    /// <summary>Room for further records. Chunks never move, so that their words may be written meanwhile.</summary>
    internal ulong[] Grow(int by)
    {
        ulong[] chunk = new ulong[by];
        Volatile.Write(ref _chunks, [.. _chunks, chunk]);
        return chunk;
    }

    /// <summary>
    /// Finds the records within <paramref name="margin"/> pages of a page, as far as their words say.
    /// </summary>
    /// <param name="from">The first record to look at; afterwards where to go on.</param>
    /// <param name="page">The page.</param>
    /// <param name="margin">How far away.</param>
    /// <param name="goneToo">Whether those that are gone count.</param>
    /// <param name="found">Takes their indices, ascending.</param>
    /// <returns>How many; when <paramref name="found"/> is full there may be more.</returns>
    internal int Find(ref int from, ulong page, uint margin, bool goneToo, Span<int> found)
    {
        int start = 0, count = 0;
        foreach (ulong[] chunk in Volatile.Read(ref _chunks))
        {
            if (from < start + chunk.Length)
            {
                int at = from - start;
                int here = Find(chunk, ref at, page, margin, goneToo, found[count..]);
                for (int i = 0; i < here; i++) { found[count++] += start; }
                from = start + at;
                if (count == found.Length) { break; }
            }
            start += chunk.Length;
        }
        return count;
    }

    /// <summary>As the other, in one array of words.</summary>
    internal static int Find(
        ReadOnlySpan<ulong> words, ref int from, ulong page, uint margin, bool goneToo, Span<int> found)
    {
        int count = 0, at = from;
        ulong unwanted = goneToo ? 0 : GoneBit;
        Vector<ulong> beyond = new(page + margin), twice = new(2UL * margin), most = new(MostPages);
        Vector<ulong> never = new(unwanted);
        while (at < words.Length && count < found.Length)
        {
            if (at + Vector<ulong>.Count <= words.Length)
            {
                Vector<ulong> word = new(words[at..]);
                Vector<ulong> pages = word & most;
                // first - margin <= page < first + pages + margin, in one comparison: below the first it wraps around.
                Vector<ulong> into = beyond - (word >>> FirstShift);
                Vector<ulong> near = Vector.LessThan(into, pages + twice)
                    | (Vector.Equals(pages, most) & Vector.LessThanOrEqual(into, beyond));
                if ((near & Vector.Equals(word & never, Vector<ulong>.Zero)) == Vector<ulong>.Zero)
                {
                    at += Vector<ulong>.Count;
                    continue;
                }
            }
            if ((words[at] & unwanted) == 0 && IsNear(words[at], page, margin)) { found[count++] = at; }
            at++;
        }
        from = at;
        return count;
    }

    private static bool IsNear(ulong word, ulong page, uint margin)
    {
        ulong into = page + margin - (word >> FirstShift), pages = word & MostPages;
        return into < pages + 2UL * margin || (pages == MostPages && into <= page + margin);
    }
}
