using Sluice.Remapping.Allocation;

namespace Sluice.Remapping.Tests;

/// <summary>
/// Logical addresses as a plain bitmap of pages: slow, obvious, and written without looking at the allocator.
/// </summary>
internal sealed class AddressModel
{
    private readonly bool[] _taken;

    public AddressModel(ulong lastByte, IEnumerable<LogicalRange> reserved)
    {
        _taken = new bool[(int)((lastByte + 1) >> 12)];
        _taken[0] = true;
        foreach (LogicalRange range in reserved) { Reserve(range); }
    }

    public void Reserve(LogicalRange range)
    {
        for (ulong page = range.First.Value >> 12; page <= range.Last.Value >> 12
            && page < (ulong)_taken.Length; page++)
        {
            _taken[page] = true;
        }
    }

    /// <summary>Whether the range holds nothing but free and reserved pages, given what is reserved.</summary>
    public bool IsFree(ulong firstPage, ulong pages)
    {
        for (ulong page = firstPage; page < firstPage + pages; page++)
        {
            if (page >= (ulong)_taken.Length || _taken[page]) { return false; }
        }
        return true;
    }

    /// <summary>Whether any naturally aligned free run of 2^log2 pages ends at or below the limit.</summary>
    public bool Fits(int log2, ulong limit)
    {
        ulong size = 1UL << log2;
        for (ulong page = 0; ((page + size) << 12) - 1 <= limit && page + size <= (ulong)_taken.Length; page += size)
        {
            if (IsFree(page, size)) { return true; }
        }
        return false;
    }

    public void Take(LogicalSlot slot)
    {
        ulong first = slot.First.Value >> 12;
        Assert.True(slot.First.IsAligned(12 + slot.Log2), "a slot is naturally aligned");
        Assert.True(IsFree(first, 1UL << slot.Log2), $"{slot} overlaps what is taken or reserved");
        Array.Fill(_taken, true, (int)first, 1 << slot.Log2);
    }

    /// <summary>Whether an aligned free range lies between the bounds, with free pages around it when asked.</summary>
    public bool FitsRange(int pages, LogicalRange bounds, int alignmentLog2, int guard)
    {
        ulong step = Math.Max(1UL, (1UL << alignmentLog2) >> 12);
        for (ulong page = 0; page + (ulong)pages <= (ulong)_taken.Length; page += step)
        {
            if (page << 12 < bounds.First.Value || ((page + (ulong)pages) << 12) - 1 > bounds.Last.Value) { continue; }
            if (page >= (ulong)guard && IsFree(page - (ulong)guard, (ulong)(pages + 2 * guard))) { return true; }
        }
        return false;
    }

    public void Take(LogicalSpace space)
    {
        ulong first = space.Taken.First.Value >> 12, pages = (space.Taken.LengthMinusOne >> 12) + 1;
        Assert.True(IsFree(first, pages), $"{space} overlaps what is taken or reserved");
        Array.Fill(_taken, true, (int)first, (int)pages);
    }

    public void Give(LogicalSpace space) => Array.Fill(
        _taken, false, (int)(space.Taken.First.Value >> 12), (int)(space.Taken.LengthMinusOne >> 12) + 1);

    public void Give(LogicalSlot slot) => Array.Fill(_taken, false, (int)(slot.First.Value >> 12), 1 << slot.Log2);
}
