namespace Sluice.Iommu.Vtd;

/// <summary>
/// What a translation must know before any table: one word, so that it is never seen half changed.
/// <code>
///  63                        12 11      3   2    1   0
/// ┌────────────────────────────┬─────────┬────┬────┬───┐
/// │        root table          │    0    │mode│ set│ TE│      mode: not legacy, so every request is refused
/// └────────────────────────────┴─────────┴────┴────┴───┘
/// </code>
/// </summary>
internal readonly record struct RootPointer(ulong Word)
{
    private const ulong EnabledBit = 1;
    private const ulong SetBit = 2;
    private const ulong WrongModeBit = 4;
    private const ulong ModeMask = 3UL << 10;

    internal bool IsEnabled => (Word & EnabledBit) != 0;

    /// <summary>Whether software has ever set a root table. Until then an enabled unit refuses everything.</summary>
    internal bool IsSet => (Word & SetBit) != 0;

    internal bool IsWrongMode => (Word & WrongModeBit) != 0;

    internal PhysicalAddress Table => new(Word & ~0xFFFUL);

    /// <summary>With the root table that RTADDR names.</summary>
    internal RootPointer Latch(ulong register) =>
        new((register & ~0xFFFUL) | SetBit | ((register & ModeMask) != 0 ? WrongModeBit : 0) | (Word & EnabledBit));

    internal RootPointer Enable(bool on) => new(on ? Word | EnabledBit : Word & ~EnabledBit);
}
