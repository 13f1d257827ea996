namespace Sluice.Formats.PageTables;

/// <summary>
/// One slot of a VT-d second-stage table.
/// <code>
///  63 62        52 51                         12 11 10 9  8  7  6  3  2  1  0
/// ┌──┬────────────┬─────────────────────────────┬──┬──┬──┬──┬──┬─────┬──┬──┬──┐
/// │ –│     –      │   table or page [51:12]     │SN│ –│ D│ A│PS│  –  │ X│ W│ R│
/// └──┴────────────┴─────────────────────────────┴──┴──┴──┴──┴──┴─────┴──┴──┴──┘
/// </code>
/// There is no present bit: an entry that grants nothing is absent. PS means "leaf" at levels 1 and 2 and is reserved
/// above.
/// </summary>
/// <remarks>
/// VT-d specification 9.8; rights are ANDed over the levels of a walk. Ignored: 2, 10, 61:52, 63; 62 (TM) is old.
/// </remarks>
/// <param name="Word">The entry as it lies in memory.</param>
public readonly record struct VtdSecondStageEntry(ulong Word)
{
    private const ulong ReadBit = 1 << 0;
    private const ulong WriteBit = 1 << 1;
    private const ulong LeafBit = 1 << 7;
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    /// <summary>Whether the entry grants anything.</summary>
    public bool IsPresent => (Word & (ReadBit | WriteBit)) != 0;

    /// <summary>The PS bit: a leaf, at a level above the leaf level.</summary>
    public bool IsLargeLeaf => (Word & LeafBit) != 0;

    /// <summary>What this entry grants; a walk ANDs it with the entries above.</summary>
    public DmaAccess Access => (DmaAccess)(Word & (ReadBit | WriteBit));

    /// <summary>The next table or the page.</summary>
    public PhysicalAddress Address => new(Word & AddressMask);

    /// <summary>A page of 4 KiB (<paramref name="level"/> 0), 2 MiB (1) or 1 GiB (2).</summary>
    public static VtdSecondStageEntry Leaf(PhysicalAddress page, DmaAccess access, int level) =>
        new((page.Value & AddressMask) | (ulong)access | (level > 0 ? LeafBit : 0));

    /// <summary>The next table, granting everything: the leaf decides.</summary>
    public static VtdSecondStageEntry Table(PhysicalAddress table) =>
        new((table.Value & AddressMask) | ReadBit | WriteBit);

    /// <summary>The fields in words.</summary>
    public override string ToString() => IsPresent ? $"{Address} {Access}{(IsLargeLeaf ? " leaf" : "")}" : "absent";
}
