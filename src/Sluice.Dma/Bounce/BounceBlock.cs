using System.Numerics;

namespace Sluice.Dma;

/// <summary>
/// Bounce pages that follow each other in memory, and which of them are free: a bit each. Single pages are taken from
/// the bottom and runs from the top, so that the one leaves room for the other. Only inside its area's gate.
/// </summary>
internal sealed class BounceBlock
{
    private const int PageLog2 = 12;
    private const int WordLog2 = 6;
    private const int WordMask = (1 << WordLog2) - 1;
    private readonly ulong[] _free;
    private readonly ulong[] _quarantined;
    private readonly BounceLink[] _links;

    // No word below this one has a free page.
    private int _lowest;

    internal BounceBlock(BounceArea area, PhysicalAddress first, int pages)
    {
        (Area, First, Pages) = (area, first, pages);
        _free = new ulong[(pages + WordMask) >> WordLog2];
        _quarantined = new ulong[_free.Length];
        _links = new BounceLink[pages];
        TryGive(0, pages);
    }

    internal BounceArea Area { get; }

    internal PhysicalAddress First { get; }

    internal int Pages { get; }

    internal PhysicalAddress AddressOf(int page) => First + ((ulong)page << PageLog2);

    /// <summary>What follows the run that begins at a page; whoever holds the page owns it, outside the gate
    /// too.</summary>
    internal ref BounceLink LinkAt(int page) => ref _links[page];

    /// <summary>Takes at most <paramref name="wanted"/> pages, wherever they are free.</summary>
    /// <returns>How many.</returns>
    internal int Take(int wanted, ref BounceHold hold)
    {
        int left = wanted;
        int word = _lowest;
        while (left > 0 && word < _free.Length)
        {
            ulong free = _free[word];
            if (free == 0)
            {
                word++;
                continue;
            }
            int first = BitOperations.TrailingZeroCount(free);
            int count = Math.Min(left, BitOperations.TrailingZeroCount(~(free >> first)));
            _free[word] = free & ~(Ones(count) << first);
            hold.Add(this, (word << WordLog2) + first, count);
            left -= count;
        }
        _lowest = word;
        return wanted - left;
    }

    /// <summary>Takes a run, the highest that will do.</summary>
    internal bool TryTakeRun(in BounceNeed need, ref BounceHold hold)
    {
        int first = FindRun(_free, need);
        if (first < 0) { return false; }
        Change(_free, first, need.Pages, set: false);
        hold.Add(this, first, need.Pages);
        return true;
    }

    /// <summary>Whether there would be such a run if everything but what is set aside were given back.</summary>
    internal bool CouldEverTakeRun(in BounceNeed need, ReadOnlySpan<BackendReservation> setAside)
    {
        ulong[] usable = new ulong[_free.Length];
        Change(usable, 0, Pages, set: true);
        for (int i = 0; i < usable.Length; i++) { usable[i] &= ~_quarantined[i]; }
        foreach (BackendReservation reservation in setAside)
        {
            foreach (BounceRun run in reservation.Hold)
            {
                if (run.Block == this) { Change(usable, run.First, run.Count, set: false); }
            }
        }
        return FindRun(usable, need) >= 0;
    }

    /// <summary>Takes a run back; false, and nothing done, when some of it is free or in quarantine already.</summary>
    internal bool TryGive(int first, int count)
    {
        if (!AreHeld(first, count)) { return false; }
        Change(_free, first, count, set: true);
        _lowest = Math.Min(_lowest, first >> WordLog2);
        return true;
    }

    /// <summary>Pages that a device may still reach: neither free nor ever given again until released.</summary>
    internal void Quarantine(int first, int count) => Change(_quarantined, first, count, set: true);

    internal void Release(int first, int count) => Change(_quarantined, first, count, set: false);

    internal bool IsQuarantined(int page) => (_quarantined[page >> WordLog2] >> (page & WordMask) & 1) != 0;

    internal bool IsFree(int page) => (_free[page >> WordLog2] >> (page & WordMask) & 1) != 0;

    private bool AreHeld(int first, int count)
    {
        ulong others = 0;
        while (count > 0)
        {
            int bit = first & WordMask;
            int here = Math.Min(count, WordMask + 1 - bit);
            others |= (_free[first >> WordLog2] | _quarantined[first >> WordLog2]) & (Ones(here) << bit);
            (first, count) = (first + here, count - here);
        }
        return others == 0;
    }

    private int FindRun(ulong[] free, in BounceNeed need)
    {
        int length = 0;
        for (int page = Pages - 1; page >= 0; page--)
        {
            ulong here = free[page >> WordLog2] << (WordMask - (page & WordMask));
            if (here >> WordMask == 0)
            {
                // Down to the next free page of this word, or over all of it.
                page -= Math.Min(BitOperations.LeadingZeroCount(here) - 1, page & WordMask);
                length = 0;
            }
            else if (++length >= need.Pages && need.Fits(AddressOf(page))) { return page; }
        }
        return -1;
    }

    private static void Change(ulong[] bits, int first, int count, bool set)
    {
        while (count > 0)
        {
            int bit = first & WordMask;
            int here = Math.Min(count, WordMask + 1 - bit);
            ulong mask = Ones(here) << bit;
            ref ulong word = ref bits[first >> WordLog2];
            word = set ? word | mask : word & ~mask;
            (first, count) = (first + here, count - here);
        }
    }

    private static ulong Ones(int count) => ulong.MaxValue >> (WordMask + 1 - count);
}
