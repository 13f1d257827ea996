namespace Sluice.Remapping.Allocation;

/// <summary>
/// Windows of 4 GiB anywhere in a wide address space, as many as are in use at once: there are 2^25 of them with 57
/// address bits, far too many for an array. Not safe from several threads.
/// </summary>
/// <param name="most">How many may be in use.</param>
internal sealed class FarArenas(int most)
{
    private readonly SortedList<ulong, Arena> _arenas = [];

    /// <summary>More pages than any range can have: as many windows again lie below these.</summary>
    public ulong MostPages => (ulong)most << (Arena.SizeLog2 + 1);

    /// <summary>How many more there may be.</summary>
    public int Left => most - _arenas.Count;

    /// <summary>Those in use, from the lowest.</summary>
    public IList<ulong> Indices => _arenas.Keys;

    /// <summary>A window; null while nothing is taken in it.</summary>
    public Arena? this[ulong index] => _arenas.GetValueOrDefault(index);

    /// <summary>A window is in use from now on.</summary>
    public Arena Add(ulong index, Arena arena)
    {
        _arenas.Add(index, arena);
        return arena;
    }

    /// <summary>Nothing is taken in a window any more.</summary>
    public void Remove(ulong index) => _arenas.Remove(index);

    /// <summary>The first window in use from <paramref name="index"/> on.</summary>
    public bool TryNext(ulong index, out ulong next)
    {
        foreach (ulong one in _arenas.Keys)
        {
            next = one;
            if (one >= index) { return true; }
        }
        next = 0;
        return false;
    }
}
