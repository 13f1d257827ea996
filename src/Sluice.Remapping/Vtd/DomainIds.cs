namespace Sluice.Remapping.Vtd;

/// <summary>
/// The ids that tag a domain's entries in the units' caches. Id 0 is never given out (units in caching mode reserve
/// it); a freed id comes round last, and only after everything that carried it was flushed. Not safe from several
/// threads.
/// </summary>
internal sealed class DomainIds(int count)
{
    private readonly bool[] _taken = new bool[count];
    private int _next = 1;

    /// <summary>How many domains there can be.</summary>
    public int Capacity => _taken.Length - 1;

    /// <summary>Takes an id.</summary>
    public bool TryTake(out ushort id)
    {
        for (int tried = 1; tried < _taken.Length; tried++)
        {
            int candidate = _next;
            _next = _next + 1 == _taken.Length ? 1 : _next + 1;
            if (_taken[candidate]) { continue; }
            _taken[candidate] = true;
            id = (ushort)candidate;
            return true;
        }
        id = 0;
        return false;
    }

    /// <summary>Gives an id back whose domain was flushed from every unit.</summary>
    public void Give(ushort id) => _taken[id] = false;
}
