namespace Sluice.Remapping;

/// <summary>
/// The ids that tag a domain's entries in the units' caches. Id 0 is never given out (units that cache absence reserve
/// it); a freed id comes round last, and only after everything that carried it was flushed. Not safe from several
/// threads.
/// </summary>
/// <remarks>
/// Units may tell apart different numbers of domains. Ids that the more modest ones do not have are taken first, so
/// that a domain of one class does not use up the few ids of another.
/// </remarks>
internal sealed class DomainIds
{
    private readonly bool[] _taken;

    // Ascending: band n begins where the one before ends.
    private readonly int[] _ends;
    private readonly int[] _next;

    /// <summary>Ids for units that tell apart so many domains each, 0 among them.</summary>
    /// <param name="counts">At least one; each 2 to 65,536.</param>
    public DomainIds(IEnumerable<int> counts)
    {
        _ends = [.. counts.Distinct().Order()];
        _taken = new bool[_ends[^1]];
        _next = [.. _ends.Select((_, band) => FirstOf(band))];
    }

    /// <summary>Takes an id.</summary>
    /// <param name="count">How many ids there are for the units that will see it: one of those at the start.</param>
    /// <param name="id">1 to <paramref name="count"/> - 1.</param>
    /// <returns>False when all are taken.</returns>
    public bool TryTake(int count, out ushort id)
    {
        for (int band = _ends.Length - 1; band >= 0; band--)
        {
            if (_ends[band] <= count && TryBand(band, out id)) { return true; }
        }
        id = 0;
        return false;
    }

    /// <summary>Gives an id back whose domain was flushed from every unit.</summary>
    /// <param name="id">From <see cref="TryTake"/>.</param>
    public void Give(ushort id) => _taken[id] = false;

    private bool TryBand(int band, out ushort id)
    {
        for (int tried = FirstOf(band); tried < _ends[band]; tried++)
        {
            int candidate = _next[band];
            _next[band] = candidate + 1 == _ends[band] ? FirstOf(band) : candidate + 1;
            if (_taken[candidate]) { continue; }
            _taken[candidate] = true;
            id = (ushort)candidate;
            return true;
        }
        id = 0;
        return false;
    }

    private int FirstOf(int band) => band == 0 ? 1 : _ends[band - 1];
}
