namespace Sluice.Remapping.Allocation;

/// <summary>
/// Freed slots of one size, oldest first. A slot leaves only after <see cref="Depth"/> younger ones have come, so an
/// address that a late device still uses stays unmapped for a while and the late DMA faults. Not safe from several
/// threads.
/// </summary>
internal sealed class SlotRing
{
    private readonly ulong[] _pages;
    private int _head;

    /// <summary>A ring that keeps back <paramref name="depth"/> slots, a power of two.</summary>
    public SlotRing(int depth)
    {
        Depth = depth;
        _pages = new ulong[2 * depth];
    }

    /// <summary>How many later frees a slot waits for.</summary>
    public int Depth { get; }

    /// <summary>Slots inside.</summary>
    public int Count { get; private set; }

    /// <summary>Whether the next free must first make room.</summary>
    public bool IsFull => Count == _pages.Length;

    /// <summary>
    /// Takes the oldest slot if it has waited long enough and ends at or below <paramref name="lastPage"/>.
    /// </summary>
    public bool TryTake(ulong slotPages, ulong lastPage, out ulong page)
    {
        page = _pages[_head];
        if (Count <= Depth || page + slotPages - 1 > lastPage) { return false; }
        Drop();
        return true;
    }

    /// <summary>The oldest slot, whatever its age; the ring is not empty.</summary>
    public ulong TakeOldest()
    {
        ulong page = _pages[_head];
        Drop();
        return page;
    }

    /// <summary>Adds a freed slot; the ring is not full.</summary>
    public void Add(ulong page) => _pages[(_head + Count++) & (_pages.Length - 1)] = page;

    private void Drop()
    {
        _head = (_head + 1) & (_pages.Length - 1);
        Count--;
    }
}
