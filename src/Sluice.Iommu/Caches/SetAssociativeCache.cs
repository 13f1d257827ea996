using System.Runtime.CompilerServices;

namespace Sluice.Iommu;

/// <summary>
/// A set-associative cache from a non-zero 64-bit key to a 64-bit value. Finding takes no lock and writes nothing;
/// one thread at a time may change it.
/// <code>
/// set:  version │ key 0 │ value 0 │ key 1 │ value 1 │ …        newest first; 8 words with 3 ways: one cache line
/// </code>
/// </summary>
/// <remarks>
/// The version is odd while a set changes. A reader takes the value only when the version was even and the same before
/// and after: re-checking the key alone would not do, because a reader may sleep between its two loads while the slot
/// is given away and comes back with the same key.
/// </remarks>
internal sealed class SetAssociativeCache
{
    private const int Header = 1;
    private readonly ulong[] _words;
    private readonly int _ways;
    private readonly int _setsLog2;
    private readonly int _strideLog2;
    private readonly SharedWord _count = new();

    internal SetAssociativeCache(int setsLog2, int ways)
    {
        _setsLog2 = setsLog2;
        _ways = ways;
        _strideLog2 = 1;
        while (1 << _strideLog2 < Header + 2 * ways) { _strideLog2++; }
        _words = new ulong[1 << (setsLog2 + _strideLog2)];
    }

    /// <summary>Entries now.</summary>
    internal int Count => (int)Volatile.Read(ref _count.Value);

    /// <summary>Finds the value of a key. A set that changes at this moment counts as a miss.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool TryFind(ulong key, out ulong value)
    {
        ulong[] words = _words;
        int set = SetOf(key);
        ulong version = Volatile.Read(ref words[set]);
        int end = set + Header + 2 * _ways;
        for (int slot = set + Header; slot < end; slot += 2)
        {
            if (Volatile.Read(ref words[slot]) != key) { continue; }
            value = Volatile.Read(ref words[slot + 1]);
            return Volatile.Read(ref words[set]) == version && (version & 1) == 0;
        }
        value = 0;
        return false;
    }

    /// <summary>
    /// Adds or replaces, newest first: what was just walked for is found at the first comparison, and the oldest
    /// leaves.
    /// </summary>
    internal void Insert(ulong key, ulong value)
    {
        int set = SetOf(key);
        int last = set + Header + 2 * (_ways - 1);
        int slot = set + Header;
        while (slot < last && _words[slot] != key && _words[slot] != 0) { slot += 2; }
        if (_words[slot] == 0) { Volatile.Write(ref _count.Value, _count.Value + 1); }
        BeginChange(set);
        for (; slot > set + Header; slot -= 2) { Put(slot, _words[slot - 2], _words[slot - 1]); }
        Put(slot, key, value);
        EndChange(set);
    }

    /// <summary>Removes every entry whose key and value have the given bits.</summary>
    internal void Remove(ulong keyMask, ulong keyBits, ulong valueMask = 0, ulong valueBits = 0)
    {
        for (int set = 0; _count.Value > 0 && set < _words.Length; set += 1 << _strideLog2)
        {
            RemoveInSet(set, keyMask, keyBits, valueMask, valueBits);
        }
    }

    /// <summary>
    /// Removes every entry whose key equals <paramref name="key"/> except in its low <paramref name="runLog2"/> bits.
    /// Visits only the sets such keys can be in, when those are fewer than all.
    /// </summary>
    internal void RemoveRun(ulong key, int runLog2)
    {
        ulong low = (1UL << runLog2) - 1;
        if (_count.Value == 0) { return; }
        if (runLog2 >= _setsLog2) { Remove(~low, key & ~low); return; }
        for (ulong i = 0; i <= low; i++)
        {
            RemoveInSet(SetOf((key & ~low) + i), ~0UL, (key & ~low) + i, 0, 0);
        }
    }

    // Folding the middle bits in spreads pages that lie a power of two apart, as slots with guard pages do.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private int SetOf(ulong key)
    {
        uint hash = (uint)key ^ (uint)(key >> 9) ^ (uint)(key >> 47);
        return (int)(hash & ((1u << _setsLog2) - 1)) << _strideLog2;
    }

    private void RemoveInSet(int set, ulong keyMask, ulong keyBits, ulong valueMask, ulong valueBits)
    {
        int end = set + Header + 2 * _ways;
        for (int slot = set + Header; slot < end; slot += 2)
        {
            ulong key = _words[slot];
            if (key == 0 || (key & keyMask) != keyBits || (_words[slot + 1] & valueMask) != valueBits) { continue; }
            Volatile.Write(ref _count.Value, _count.Value - 1);
            BeginChange(set);
            Put(slot, 0, 0);
            EndChange(set);
        }
    }

    // Each Volatile store waits for the ones before it, so the version is odd before anything changes and even after.
    private void BeginChange(int set) => Volatile.Write(ref _words[set], _words[set] + 1);

    private void EndChange(int set) => Volatile.Write(ref _words[set], _words[set] + 1);

    private void Put(int slot, ulong key, ulong value)
    {
        Volatile.Write(ref _words[slot], key);
        Volatile.Write(ref _words[slot + 1], value);
    }
}
