namespace Sluice.Formats.Tests.PageTables;

/// <summary>Decoders written straight from the bit tables of the specifications, level by level, sharing nothing with the library.</summary>
public static class NaiveWalks
{
    /// <summary>VT-d second stage: R 0, W 1, PS 7, address 51:12; rights ANDed; no present bit.</summary>
    public static NaiveWalk VtdSecondStage(int levels) => (read, root, address) =>
    {
        if (levels < 5 && address >= 1UL << (12 + 9 * levels)) { return NaiveAnswer.Nothing; }
        ulong table = root;
        bool mayRead = true, mayWrite = true;
        for (int level = levels; level >= 1; level--)
        {
            int low = 12 + 9 * (level - 1);
            ulong entry = read(table + (address >> low) % 512 * 8);
            mayRead &= Bit(entry, 0);
            mayWrite &= Bit(entry, 1);
            ulong target = Bits(entry, 51, 12) << 12;
            if (level == 1 || ((level == 2 || level == 3) && Bit(entry, 7)))
            {
                ulong size = 1UL << low;
                return Answer(mayRead, mayWrite, target / size * size + address % size, low);
            }
            if (!mayRead && !mayWrite) { return NaiveAnswer.Nothing; }
            table = target;
        }
        return NaiveAnswer.Nothing;
    };

    private static NaiveAnswer Answer(bool mayRead, bool mayWrite, ulong physical, int sizeLog2)
    {
        DmaAccess access = (mayRead ? DmaAccess.Read : 0) | (mayWrite ? DmaAccess.Write : 0);
        return access == DmaAccess.None ? NaiveAnswer.Nothing : new(physical, access, sizeLog2);
    }

    private static bool Bit(ulong word, int bit) => (word >> bit) % 2 == 1;

    private static ulong Bits(ulong word, int high, int low) => (word >> low) & ((2UL << (high - low)) - 1);
}
