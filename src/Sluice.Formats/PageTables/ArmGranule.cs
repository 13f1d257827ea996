namespace Sluice.Formats.PageTables;

/// <summary>The translation granule of an Arm format: a set of constants.</summary>
public interface IArmGranule
{
    /// <summary>The format's name on the command line.</summary>
    static abstract string Name { get; }

    /// <summary>Size of the smallest page.</summary>
    static abstract int Log2 { get; }

    /// <summary>The levels above 0 at which type 1 is a block: bit n for level n.</summary>
    static abstract uint BlockLevels { get; }

    /// <summary>Items of a contiguous group, as a power of two, at a level.</summary>
    static abstract int ContiguousLog2(int level);
}

/// <summary>4 KiB: blocks of 2 MiB and 1 GiB, groups of 16.</summary>
public readonly struct Arm4K : IArmGranule
{
    /// <inheritdoc/>
    public static string Name => "arm-4k";

    /// <inheritdoc/>
    public static int Log2 => 12;

    /// <inheritdoc/>
    public static uint BlockLevels => 0b110;

    /// <inheritdoc/>
    public static int ContiguousLog2(int level) => 4;
}

/// <summary>16 KiB: blocks of 32 MiB, groups of 128 pages or 32 blocks.</summary>
public readonly struct Arm16K : IArmGranule
{
    /// <inheritdoc/>
    public static string Name => "arm-16k";

    /// <inheritdoc/>
    public static int Log2 => 14;

    /// <inheritdoc/>
    public static uint BlockLevels => 0b010;

    /// <inheritdoc/>
    public static int ContiguousLog2(int level) => level == 0 ? 7 : 5;
}

/// <summary>64 KiB: blocks of 512 MiB, groups of 32, physical addresses of 52 bits.</summary>
public readonly struct Arm64K : IArmGranule
{
    /// <inheritdoc/>
    public static string Name => "arm-64k";

    /// <inheritdoc/>
    public static int Log2 => 16;

    /// <inheritdoc/>
    public static uint BlockLevels => 0b010;

    /// <inheritdoc/>
    public static int ContiguousLog2(int level) => 5;
}
