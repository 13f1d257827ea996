namespace Sluice.Formats.Tests.PageTables;

/// <summary>
/// Decoders written straight from the bit tables of the specifications, level by level, sharing nothing with the
/// library.
/// </summary>
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

    /// <summary>
    /// x86: P 0, RW 1, US 2, PS 7, address 51:12; RW and US ANDed; canonical input; a user's request.
    /// </summary>
    public static NaiveWalk X86(int levels) => (read, root, address) =>
    {
        int bits = 12 + 9 * levels;
        ulong high = address >> (bits - 1);
        if (high != 0 && high != ulong.MaxValue >> (bits - 1)) { return NaiveAnswer.Nothing; }
        ulong table = root;
        bool user = true, writable = true;
        for (int level = levels; level >= 1; level--)
        {
            int low = 12 + 9 * (level - 1);
            ulong entry = read(table + (address >> low) % 512 * 8);
            if (!Bit(entry, 0)) { return NaiveAnswer.Nothing; }
            writable &= Bit(entry, 1);
            user &= Bit(entry, 2);
            ulong target = Bits(entry, 51, 12) << 12;
            if (level == 1 || (level <= 3 && Bit(entry, 7)))
            {
                return user ? Answer(true, writable, target + address % (1UL << low), low) : NaiveAnswer.Nothing;
            }
            table = target;
        }
        return NaiveAnswer.Nothing;
    };

    /// <summary>
    /// AMD version 1: PR 0, next level 11:9, address 51:12, IR 61, IW 62; next level 7 holds its size in the address.
    /// </summary>
    public static NaiveWalk AmdV1(int levels) => (read, root, address) =>
    {
        if (levels < 6 && address >> (12 + 9 * levels) != 0) { return NaiveAnswer.Nothing; }
        ulong table = root;
        bool mayRead = true, mayWrite = true;
        int level = levels;
        while (true)
        {
            int low = 12 + 9 * (level - 1);
            ulong entry = read(table + (address >> low) % 512 * 8);
            if (!Bit(entry, 0)) { return NaiveAnswer.Nothing; }
            mayRead &= Bit(entry, 61);
            mayWrite &= Bit(entry, 62);
            int next = (int)Bits(entry, 11, 9);
            if (next is 0 or 7)
            {
                int size = low;
                if (next == 7)
                {
                    size = 12;
                    while (Bit(entry, size)) { size++; }
                    size++;
                }
                ulong first = Bits(entry, 51, 12) << 12 >> size << size;
                return Answer(mayRead, mayWrite, first + address % (1UL << size), size);
            }
            if (next >= level) { return NaiveAnswer.Nothing; }
            for (int skipped = level - 1; skipped > next; skipped--)
            {
                if ((address >> (12 + 9 * (skipped - 1))) % 512 != 0) { return NaiveAnswer.Nothing; }
            }
            table = Bits(entry, 51, 12) << 12;
            level = next;
        }
    };

    /// <summary>
    /// RISC-V: V 0, R 1, W 2, X 3, U 4, PPN 53:10, N 63; a user's request. Second stage: two more bits at the root.
    /// </summary>
    public static NaiveWalk RiscV(int levels, bool second) => (read, root, address) =>
    {
        int bits = 12 + 9 * levels + (second ? 2 : 0);
        ulong high = address >> (second ? bits : bits - 1);
        if (high != 0 && (second || high != ulong.MaxValue >> (bits - 1))) { return NaiveAnswer.Nothing; }
        ulong table = root;
        for (int i = levels - 1; i >= 0; i--)
        {
            int low = 12 + 9 * i;
            ulong index = (address >> low) % (i == levels - 1 && second ? 2048UL : 512UL);
            ulong entry = read(table + index * 8);
            if (!Bit(entry, 0) || (Bit(entry, 2) && !Bit(entry, 1))) { return NaiveAnswer.Nothing; }
            ulong page = Bits(entry, 53, 10);
            if (!Bit(entry, 1) && !Bit(entry, 3))
            {
                table = page << 12;
                continue;
            }
            if (!Bit(entry, 4)) { return NaiveAnswer.Nothing; }
            if (Bit(entry, 63))
            {
                return i == 0 && page % 16 == 8
                    ? Answer(Bit(entry, 1), Bit(entry, 2), (page - 8) * 4096 + address % 65536, 16)
                    : NaiveAnswer.Nothing;
            }
            return Answer(Bit(entry, 1), Bit(entry, 2), page * 4096 + address % (1UL << low), low);
        }
        return NaiveAnswer.Nothing;
    };

    /// <summary>
    /// Arm: type 1:0, AP 7:6, contiguous 52, address 47:granule (64 KiB: 51:48 in 15:12). Levels counted as Arm does,
    /// to 3. With hardware management of the dirty state DBM 51 means writable.
    /// </summary>
    public static NaiveWalk Arm(
        int granuleKiB, int stage, int startLevel, int inputBits, bool hardwareDirty = false) =>
        (read, root, address) =>
    {
        (int page, int bits, int[] blocks) = granuleKiB switch
        {
            4 => (12, 9, new[] { 1, 2 }),
            16 => (14, 11, [2]),
            _ => (16, 13, [2]),
        };
        if (address >> inputBits != 0) { return NaiveAnswer.Nothing; }
        ulong table = root;
        bool mayWrite = true;
        for (int level = startLevel; level <= 3; level++)
        {
            int low = page + bits * (3 - level);
            ulong index = level == startLevel ? address >> low : (address >> low) % (1UL << bits);
            ulong entry = read(table + index * 8);
            ulong type = entry % 4;
            if (type is 0 or 2 || (level == 3 && type == 1)) { return NaiveAnswer.Nothing; }
            ulong target = Bits(entry, 47, page) << page;
            if (granuleKiB == 64) { target += Bits(entry, 15, 12) << 48; }
            if (level < 3 && type == 3)
            {
                if (stage == 1 && Bit(entry, 61)) { return NaiveAnswer.Nothing; }
                if (stage == 1 && Bit(entry, 62)) { mayWrite = false; }
                table = target;
                continue;
            }
            if (level < 3 && !blocks.Contains(level)) { return NaiveAnswer.Nothing; }
            int size = low;
            if (Bit(entry, 52)) { size += granuleKiB == 4 ? 4 : granuleKiB == 16 && level == 3 ? 7 : 5; }
            ulong physical = target + address % (1UL << low);
            bool managed = hardwareDirty && Bit(entry, 51);
            return stage == 2
                ? Answer(Bit(entry, 6), Bit(entry, 7) || managed, physical, size)
                : Answer(Bit(entry, 6), Bit(entry, 6) && mayWrite && (!Bit(entry, 7) || managed), physical, size);
        }
        return NaiveAnswer.Nothing;
    };

    /// <summary>
    /// DART: 16 KiB pages, 11 index bits; first layout PA 35:12 in place, NW 7, NR 8; second PA[41:14] in 37:10, NW 2,
    /// NR 3.
    /// </summary>
    public static NaiveWalk Dart(bool first, int levels) => (read, root, address) =>
    {
        if (address >> (14 + 11 * levels) != 0) { return NaiveAnswer.Nothing; }
        ulong table = root;
        for (int level = levels; level >= 1; level--)
        {
            ulong entry = read(table + (address >> (14 + 11 * (level - 1))) % 2048 * 8);
            if (!Bit(entry, 0)) { return NaiveAnswer.Nothing; }
            ulong target = first ? Bits(entry, 35, 12) * 4096 : Bits(entry, 37, 10) * 16384;
            if (level == 1)
            {
                return Answer(!Bit(entry, first ? 8 : 3), !Bit(entry, first ? 7 : 2), target + address % 16384, 14);
            }
            table = target;
        }
        return NaiveAnswer.Nothing;
    };

    /// <summary>U3: 32-bit big-endian, valid 31, page 23:0.</summary>
    public static NaiveWalk DartU3(ulong entries) => (read, root, address) =>
    {
        if (address / 4096 >= entries) { return NaiveAnswer.Nothing; }
        ulong pair = read((root + address / 4096 * 4) & ~7UL);
        uint little = (uint)(address / 4096 % 2 == 1 ? pair >> 32 : pair);
        uint entry = little >> 24 | (little >> 8 & 0xFF00) | (little & 0xFF00) << 8 | little << 24;
        return Bit(entry, 31) ? Answer(true, true, (entry & 0xFFFFFFUL) * 4096 + address % 4096,
            12) : NaiveAnswer.Nothing;
    };

    /// <summary>GART: 32-bit little-endian, valid 0, PA[31:12] in place, PA[39:32] in 11:4.</summary>
    public static NaiveWalk Gart(ulong aperture, ulong entries) => (read, root, address) =>
    {
        if (address < aperture || (address - aperture) / 4096 >= entries) { return NaiveAnswer.Nothing; }
        ulong index = (address - aperture) / 4096;
        ulong pair = read((root + index * 4) & ~7UL);
        uint entry = (uint)(index % 2 == 1 ? pair >> 32 : pair);
        ulong physical = (Bits(entry, 11, 4) << 32) + (Bits(entry, 31, 12) << 12) + address % 4096;
        return Bit(entry, 0) ? Answer(true, true, physical, 12) : NaiveAnswer.Nothing;
    };

    /// <summary>The mock format: valid 0, table 1, read 2, write 3, page [63:11].</summary>
    public static NaiveWalk Mock(int levels) => (read, root, address) =>
    {
        if (address >> (11 + 7 * levels) != 0) { return NaiveAnswer.Nothing; }
        ulong table = root;
        for (int level = levels; level >= 1; level--)
        {
            int low = 11 + 7 * (level - 1);
            ulong entry = read(table + (address >> low) % 128 * 8);
            if (!Bit(entry, 0)) { return NaiveAnswer.Nothing; }
            ulong target = entry / 2048 * 2048;
            if (!Bit(entry, 1)) { return Answer(Bit(entry, 2), Bit(entry, 3), target + address % (1UL << low), low); }
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
