using System.Numerics;

namespace Sluice.Remapping.Allocation;

/// <summary>
/// A set of small integers that finds its lowest and highest member in a few instructions: a bitmap with a bitmap of
/// its non-zero words above it, and so on until one word is left. 64 members per word, so 2^20 members are four levels.
/// </summary>
internal sealed class BitTree
{
    private readonly ulong[][] _levels;

    /// <summary>An empty set of numbers below 2^<paramref name="sizeLog2"/>.</summary>
    public BitTree(int sizeLog2)
    {
        List<ulong[]> levels = [];
        do
        {
            sizeLog2 = Math.Max(0, sizeLog2 - 6);
            levels.Add(new ulong[1 << sizeLog2]);
        }
        while (sizeLog2 > 0);
        _levels = [.. levels];
    }

    /// <summary>Whether the set is empty.</summary>
    public bool IsEmpty => _levels[^1][0] == 0;

    /// <summary>Whether <paramref name="member"/> is in it.</summary>
    public bool Contains(int member) => ((_levels[0][member >> 6] >> member) & 1) != 0;

    /// <summary>Puts it in; it may be there already.</summary>
    public void Add(int member)
    {
        foreach (ulong[] level in _levels)
        {
            ref ulong word = ref level[member >> 6];
            bool known = word != 0;
            word |= 1UL << member;
            if (known) { return; }
            member >>= 6;
        }
    }

    /// <summary>Takes it out; it need not be there.</summary>
    public void Remove(int member)
    {
        foreach (ulong[] level in _levels)
        {
            ref ulong word = ref level[member >> 6];
            word &= ~(1UL << member);
            if (word != 0) { return; }
            member >>= 6;
        }
    }

    /// <summary>The lowest member of a set that is not empty.</summary>
    public int Lowest()
    {
        int index = 0;
        for (int level = _levels.Length - 1; level >= 0; level--)
        {
            index = (index << 6) | BitOperations.TrailingZeroCount(_levels[level][index]);
        }
        return index;
    }

    /// <summary>The lowest member that is not below <paramref name="member"/>, or -1.</summary>
    public int LowestFrom(int member)
    {
        for (int level = 0; level < _levels.Length; level++)
        {
            int index = member >> 6;
            if (index >= _levels[level].Length) { return -1; }
            ulong word = _levels[level][index] >> member << member;
            if (word != 0)
            {
                int found = (index << 6) | BitOperations.TrailingZeroCount(word);
                while (level-- > 0)
                {
                    found = (found << 6) | BitOperations.TrailingZeroCount(_levels[level][found]);
                }
                return found;
            }
            member = index + 1;
        }
        return -1;
    }

    /// <summary>The highest member of a set that is not empty.</summary>
    public int Highest()
    {
        int index = 0;
        for (int level = _levels.Length - 1; level >= 0; level--)
        {
            index = (index << 6) | (63 - BitOperations.LeadingZeroCount(_levels[level][index]));
        }
        return index;
    }
}
