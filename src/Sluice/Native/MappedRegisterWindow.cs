using System.Runtime.CompilerServices;

namespace Sluice;

/// <summary>
/// Registers that are mapped into this process: a BAR under VFIO, or a register page shared with another process.
/// </summary>
/// <remarks>
/// Every accessor is kept out of line: inlined, the just-in-time compiler narrows a 32-bit load that is only tested for
/// one bit to an 8-bit load, even through <see cref="Volatile"/>, and a device answers 8-bit accesses differently or
/// not at all.
/// </remarks>
public sealed unsafe class MappedRegisterWindow : RegisterWindow
{
    private readonly NativeBlock _block;
    private readonly ulong _offset;

    /// <summary>
    /// A window over <paramref name="length"/> bytes of <paramref name="block"/> from <paramref name="offset"/>.
    /// </summary>
    public MappedRegisterWindow(NativeBlock block, ulong offset, uint length)
    {
        ArgumentNullException.ThrowIfNull(block);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(offset, block.Length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, block.Length - offset);
        (_block, _offset, Length) = (block, offset, length);
    }

    /// <inheritdoc/>
    public override uint Length { get; }

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override byte Read8(uint offset) => Volatile.Read(ref *At(offset, sizeof(byte)));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override ushort Read16(uint offset) => Volatile.Read(ref *(ushort*)At(offset, sizeof(ushort)));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override uint Read32(uint offset) => Volatile.Read(ref *(uint*)At(offset, sizeof(uint)));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override ulong Read64(uint offset) => Volatile.Read(ref *(ulong*)At(offset, sizeof(ulong)));

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override void Write8(uint offset, byte value) => Volatile.Write(ref *At(offset, sizeof(byte)), value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override void Write16(uint offset, ushort value) =>
        Volatile.Write(ref *(ushort*)At(offset, sizeof(ushort)), value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override void Write32(uint offset, uint value) =>
        Volatile.Write(ref *(uint*)At(offset, sizeof(uint)), value);

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.NoInlining)]
    public override void Write64(uint offset, ulong value) =>
        Volatile.Write(ref *(ulong*)At(offset, sizeof(ulong)), value);

    private byte* At(uint offset, uint size)
    {
        Check(offset, size);
        ObjectDisposedException.ThrowIf(_block.Length == 0, _block);
        return _block.Start + _offset + offset;
    }
}
