namespace Sluice.Dma;

/// <summary>
/// The mapping records of one adapter: taken fresh or oldest-gone first, so that the last <c>recent</c> mappings
/// given back can always be read. Grows by chunks when more transfers are live than ever before, and never shrinks.
/// </summary>
/// <remarks>Take and give are called inside the adapter's gate; reading the records needs no lock.</remarks>
internal sealed class MappingTable
{
    private const int Chunk = 64;

    private readonly DmaAdapter _adapter;
    private readonly ReachIndex _index = new();
    private readonly int _recent;
    private Mapping[] _all = [];
    private int _used;
    private int _gone;
    private Mapping? _oldest;
    private Mapping? _newest;

    // A record that was taken and never published: it goes out first.
    private Mapping? _spare;

    internal MappingTable(DmaAdapter adapter, int recent)
    {
        (_adapter, _recent) = (adapter, recent);
        Grow(recent + Chunk);
    }

    /// <summary>All records, used or not.</summary>
    internal ReadOnlySpan<Mapping> All => Volatile.Read(ref _all);

    /// <summary>Where they lie, in the same order. It may be a moment ahead of <see cref="All"/>.</summary>
    internal ReachIndex Index => _index;

    internal Mapping Take()
    {
        if (_spare is { } spare)
        {
            _spare = spare.NextFree;
            return spare;
        }
        if (_gone > _recent)
        {
            Mapping taken = _oldest!;
            _oldest = taken.NextFree;
            _gone--;
            return taken;
        }
        if (_used == _all.Length) { Grow(Chunk); }
        return _all[_used++];
    }

    /// <summary>As <see cref="Take"/>, right after <see cref="Give"/>: rather forgets early than allocates.</summary>
    internal Mapping TakeWithoutGrowing()
    {
        if (_spare is not null || _gone > _recent || _used < _all.Length) { return Take(); }
        Mapping oldest = _oldest!;
        _oldest = oldest.NextFree;
        _gone--;
        return oldest;
    }

    /// <summary>Gives back a record that became history.</summary>
    internal void Give(Mapping mapping)
    {
        mapping.NextFree = null;
        if (_gone++ == 0) { _oldest = mapping; }
        else { _newest!.NextFree = mapping; }
        _newest = mapping;
    }

    /// <summary>Gives back a record that was taken but not written: what it remembers stays.</summary>
    internal void GiveUnused(Mapping mapping) => (mapping.NextFree, _spare) = (_spare, mapping);

    private void Grow(int by)
    {
        var all = new Mapping[_all.Length + by];
        _all.CopyTo(all, 0);
        ulong[] words = _index.Grow(by);
        for (int i = 0; i < by; i++) { all[_all.Length + i] = new(_adapter, words, i); }
        Volatile.Write(ref _all, all);
    }
}
