using System.Globalization;
using System.Numerics;

namespace Sluice.Formats.PageTables;

/// <summary>How a change of page tables ended.</summary>
public enum PageTableStatus : byte
{
    /// <summary>Done.</summary>
    Done,

    /// <summary>A logical address beyond the tables, or a physical one beyond the format or the hardware.</summary>
    OutOfRange,

    /// <summary>An address that is not a multiple of the smallest page.</summary>
    Misaligned,

    /// <summary>No access asked for: absent entries are how formats say that.</summary>
    NoAccess,

    /// <summary>A page of the range is mapped already; nothing is overwritten.</summary>
    AlreadyMapped,

    /// <summary>The frame allocator has no memory for a table.</summary>
    NoFrames,

    /// <summary>
    /// The range begins or ends inside a page; splitting it was not asked for, or the format has no smaller page for
    /// it.
    /// </summary>
    WouldSplit,

    /// <summary>A table lies where there is no memory, or holds reserved bits.</summary>
    DamagedTables,
}

/// <summary>
/// What a change did. When <paramref name="Status"/> is not done, the bytes before the obstacle remain changed.
/// </summary>
/// <param name="Status">How it ended.</param>
/// <param name="Bytes">
/// Bytes mapped, from the start of the range; unmap that many to roll back. From <c>Unmap</c>: bytes that were mapped
/// and are no more, wherever in the range.
/// </param>
/// <param name="PageSizes">The sizes of the leaves written or cleared: bit n for 2^n bytes.</param>
public readonly record struct PageTableChange(PageTableStatus Status, ulong Bytes, ulong PageSizes = 0)
{
    /// <summary>Whether all of it was done.</summary>
    public bool IsDone => Status == PageTableStatus.Done;

    /// <summary>In words: <c>AlreadyMapped after 2101248 bytes, in pages of 4 KiB and 2 MiB</c>.</summary>
    public override string ToString()
    {
        string bytes = Bytes == 1 ? "1 byte" : string.Create(CultureInfo.InvariantCulture, $"{Bytes} bytes");
        string what = IsDone ? $"{bytes} done" : $"{Status} after {bytes}";
        if (PageSizes == 0) { return what; }
        List<string> sizes = [];
        for (ulong left = PageSizes; left != 0; left &= left - 1)
        {
            sizes.Add(NameOf(BitOperations.TrailingZeroCount(left)));
        }
        string last = sizes[^1];
        string all = sizes.Count == 1 ? last : $"{string.Join(", ", sizes.Take(sizes.Count - 1))} and {last}";
        return $"{what}, in pages of {all}";
    }

    private static string NameOf(int sizeLog2)
    {
        string[] units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        return string.Create(CultureInfo.InvariantCulture, $"{1 << (sizeLog2 % 10)} {units[sizeLog2 / 10]}");
    }
}
