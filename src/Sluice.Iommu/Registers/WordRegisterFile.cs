namespace Sluice.Iommu;

/// <summary>
/// The register window of a unit whose registers are 4 and 8 bytes wide. Every access becomes one access to an aligned
/// 64-bit word with a mask of the bits it covers, so a 32-bit access to half of a wide register, and a 64-bit access to
/// two narrow ones, need no cases of their own. Narrower reads give the bytes of the register, narrower writes are
/// ignored.
/// </summary>
internal abstract class WordRegisterFile : RegisterWindow
{
    /// <summary>The mask of a write to the register at the word's own offset.</summary>
    protected const ulong LowHalf = 0xFFFF_FFFF;

    /// <summary>The mask of a write to the register 4 bytes on.</summary>
    protected const ulong HighHalf = ~LowHalf;

    /// <inheritdoc/>
    public sealed override byte Read8(uint offset) =>
        (byte)(ReadChecked(offset, sizeof(byte)) >> (int)(offset & 7) * 8);

    /// <inheritdoc/>
    public sealed override ushort Read16(uint offset) =>
        (ushort)(ReadChecked(offset, sizeof(ushort)) >> (int)(offset & 7) * 8);

    /// <inheritdoc/>
    public sealed override uint Read32(uint offset) =>
        (uint)(ReadChecked(offset, sizeof(uint)) >> (int)(offset & 7) * 8);

    /// <inheritdoc/>
    public sealed override ulong Read64(uint offset) => ReadChecked(offset, sizeof(ulong));

    /// <inheritdoc/>
    public sealed override void Write8(uint offset, byte value) => Check(offset, sizeof(byte));

    /// <inheritdoc/>
    public sealed override void Write16(uint offset, ushort value) => Check(offset, sizeof(ushort));

    /// <inheritdoc/>
    public sealed override void Write32(uint offset, uint value)
    {
        Check(offset, sizeof(uint));
        if ((offset & 4) == 0) { WriteWord(offset, value, LowHalf); }
        else { WriteWord(offset - 4, (ulong)value << 32, HighHalf); }
    }

    /// <inheritdoc/>
    public sealed override void Write64(uint offset, ulong value)
    {
        Check(offset, sizeof(ulong));
        WriteWord(offset, value, ~0UL);
    }

    /// <summary>The word at an offset that is a multiple of 8 and inside the window.</summary>
    /// <param name="word">The offset.</param>
    protected abstract ulong ReadWord(uint word);

    /// <summary>Stores the bits of <paramref name="mask"/>: the low half, the high half or all.</summary>
    /// <param name="word">The offset, a multiple of 8 and inside the window.</param>
    /// <param name="value">The word's value where the mask is set.</param>
    /// <param name="mask">Which bits the access covers.</param>
    protected abstract void WriteWord(uint word, ulong value, ulong mask);

    /// <summary>A register after a write: its old bits where the mask is clear.</summary>
    protected static ulong Merge(ulong old, ulong value, ulong mask) => (old & ~mask) | (value & mask);

    private ulong ReadChecked(uint offset, uint size)
    {
        Check(offset, size);
        return ReadWord(offset & ~7u);
    }
}
