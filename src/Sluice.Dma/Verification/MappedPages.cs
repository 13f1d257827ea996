namespace Sluice.Dma;

/// <summary>A mapping by record and number, because records are used again.</summary>
internal readonly record struct MappedBy(Mapping Mapping, long Number);

/// <summary>Bytes of a page that two mappings have, and the other mapping.</summary>
internal readonly record struct Overlap(MappedBy By, uint First, uint Last);

/// <summary>
/// Every byte of memory that is mapped, of all adapters: a hash table by page, in shards, with the bytes of the page
/// for each mapping. One entry for each page of each live mapping, no limit, and nothing kept of what is gone but the
/// room for as much again.
/// </summary>
/// <remarks>Safe from any thread. Neighbouring pages lie in different shards, so that two adapters seldom meet.
/// </remarks>
internal sealed class MappedPages
{
    private const int ShardsLog2 = 6;
    private readonly Shard[] _shards = new Shard[1 << ShardsLog2];

    internal MappedPages()
    {
        for (int i = 0; i < _shards.Length; i++) { _shards[i] = new(); }
    }

    /// <summary>Entries now: for tests.</summary>
    internal int Count => Sum(static s => s.Count);

    /// <summary>Room for entries: for tests.</summary>
    internal int Capacity => Sum(static s => s.Capacity);

    /// <summary>Takes up bytes of a page for a mapping.</summary>
    /// <param name="page">The frame.</param>
    /// <param name="first">The first byte in it.</param>
    /// <param name="last">The last byte in it.</param>
    /// <param name="writes">Whether a device may write them.</param>
    /// <param name="by">The mapping.</param>
    /// <param name="other">The latest overlap, where one of the two is written.</param>
    /// <returns>How many such mappings there are.</returns>
    internal int Add(PhysicalAddress page, uint first, uint last, bool writes, in MappedBy by, out Overlap other) =>
        ShardOf(page).Add(page.Value, (ushort)first, (ushort)last, writes, by, out other);

    /// <summary>Ends what <see cref="Add"/> with the same page and first byte began.</summary>
    internal void Remove(PhysicalAddress page, uint first, in MappedBy by) =>
        ShardOf(page).Remove(page.Value, (ushort)first, by);

    /// <summary>Ends all of a mapping, wherever it is: for when its MDL no longer tells. Slow.</summary>
    internal void RemoveAll(in MappedBy by)
    {
        foreach (Shard shard in _shards) { shard.RemoveAll(by); }
    }

    private Shard ShardOf(PhysicalAddress page) => _shards[(int)(page.Value >> 12) & ((1 << ShardsLog2) - 1)];

    private int Sum(Func<Shard, int> count)
    {
        int sum = 0;
        foreach (Shard shard in _shards) { sum += count(shard); }
        return sum;
    }

    private struct Entry
    {
        internal ulong Page;
        internal MappedBy By;
        internal ushort First;
        internal ushort Last;
        internal bool Writes;

        // The next of the chain, or of the free ones; 0 ends both.
        internal int Next;
    }

    private sealed class Shard
    {
        private readonly Lock _lock = new();

        // Chains of entries by page; numbers of entries start at 1.
        private int[] _heads = new int[16];
        private Entry[] _entries = new Entry[16];
        private int _used = 1;
        private int _free;

        internal int Count { get; private set; }

        internal int Capacity => _entries.Length;

        internal int Add(ulong page, ushort first, ushort last, bool writes, in MappedBy by, out Overlap other)
        {
            other = default;
            int overlaps = 0;
            lock (_lock)
            {
                if (_free == 0 && _used == _entries.Length) { Grow(); }
                for (int i = Head(page); i != 0; i = _entries[i].Next)
                {
                    ref Entry entry = ref _entries[i];
                    bool conflicts = entry.Page == page && entry.First <= last && first <= entry.Last
                        && (writes || entry.Writes) && entry.By != by;
                    if (!conflicts || overlaps++ != 0) { continue; }
                    other = new(entry.By, Math.Max(first, entry.First), Math.Min(last, entry.Last));
                }
                int taken = _free;
                if (taken == 0) { taken = _used++; }
                else { _free = _entries[taken].Next; }
                ref int head = ref Head(page);
                _entries[taken] = new()
                {
                    Page = page, By = by, First = first, Last = last, Writes = writes, Next = head,
                };
                head = taken;
                Count++;
            }
            return overlaps;
        }

        internal void Remove(ulong page, ushort first, in MappedBy by)
        {
            lock (_lock)
            {
                for (ref int link = ref Head(page); link != 0; link = ref _entries[link].Next)
                {
                    ref Entry entry = ref _entries[link];
                    if (entry.Page != page || entry.First != first || entry.By != by) { continue; }
                    Unlink(ref link);
                    return;
                }
            }
        }

        internal void RemoveAll(in MappedBy by)
        {
            lock (_lock)
            {
                for (int i = 0; i < _heads.Length; i++)
                {
                    ref int link = ref _heads[i];
                    while (link != 0)
                    {
                        if (_entries[link].By == by) { Unlink(ref link); }
                        else { link = ref _entries[link].Next; }
                    }
                }
            }
        }

        private void Unlink(ref int link)
        {
            int gone = link;
            link = _entries[gone].Next;
            _entries[gone] = new() { Next = _free };
            _free = gone;
            Count--;
        }

        private ref int Head(ulong page) => ref _heads[(int)(page >> (12 + ShardsLog2)) & (_heads.Length - 1)];

        private void Grow()
        {
            Array.Resize(ref _entries, _entries.Length * 2);
            _heads = new int[_heads.Length * 2];
            for (int i = 1; i < _used; i++)
            {
                ref int head = ref Head(_entries[i].Page);
                (_entries[i].Next, head) = (head, i);
            }
        }
    }
}
