namespace Sluice;

/// <summary>
/// A machine's way into the configuration space of its PCI functions, whatever it is made of: two ports, a window in
/// memory, a file of the host's kernel. Where there is no function, or not so many bytes of one, reads give all ones
/// and writes are lost. Every access is one of exactly its width. Safe from any thread: what takes two steps is one
/// step for everybody on the machine.
/// </summary>
/// <remarks>PCI Local Bus 3.0, chapter 6; PCI Express Base 7.2. Little-endian.</remarks>
public interface IPciConfiguration
{
    /// <summary>
    /// Bytes of a function's configuration space that can be reached, whether the function is there or not: 4096, 256,
    /// or 0 where nothing leads to its bus.
    /// </summary>
    /// <param name="address">Which function.</param>
    int LengthOf(PciAddress address);

    /// <summary>One read.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4095, a multiple of <paramref name="size"/>.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <returns>The value in the low bits, the others zero; all ones, of that size, where nothing is.</returns>
    /// <exception cref="ArgumentOutOfRangeException">No such access exists.</exception>
    uint Read(PciAddress address, int offset, int size);

    /// <summary>One write; nothing happens where nothing is.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4095, a multiple of <paramref name="size"/>.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <param name="value">What to write, in the low bits; the others are not looked at.</param>
    /// <exception cref="ArgumentOutOfRangeException">No such access exists.</exception>
    void Write(PciAddress address, int offset, int size, uint value);

    /// <summary>One 8-bit read.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4095.</param>
    byte Read8(PciAddress address, int offset) => (byte)Read(address, offset, sizeof(byte));

    /// <summary>One 16-bit read.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4094, a multiple of 2.</param>
    ushort Read16(PciAddress address, int offset) => (ushort)Read(address, offset, sizeof(ushort));

    /// <summary>One 32-bit read.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4092, a multiple of 4.</param>
    uint Read32(PciAddress address, int offset) => Read(address, offset, sizeof(uint));

    /// <summary>One 8-bit write.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4095.</param>
    /// <param name="value">What to write.</param>
    void Write8(PciAddress address, int offset, byte value) => Write(address, offset, sizeof(byte), value);

    /// <summary>One 16-bit write.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4094, a multiple of 2.</param>
    /// <param name="value">What to write.</param>
    void Write16(PciAddress address, int offset, ushort value) => Write(address, offset, sizeof(ushort), value);

    /// <summary>One 32-bit write.</summary>
    /// <param name="address">Which function.</param>
    /// <param name="offset">In bytes, 0 to 4092, a multiple of 4.</param>
    /// <param name="value">What to write.</param>
    void Write32(PciAddress address, int offset, uint value) => Write(address, offset, sizeof(uint), value);

    /// <summary>
    /// For implementations: throws unless an access exists, as the contract of <see cref="Read"/> says.
    /// </summary>
    /// <param name="offset">In bytes.</param>
    /// <param name="size">In bytes.</param>
    /// <exception cref="ArgumentOutOfRangeException">It does not.</exception>
    protected static void Check(int offset, int size)
    {
        if (size is not (1 or 2 or 4) || (offset & (size - 1)) != 0 || (uint)offset >= PciConfig.ExpressSize)
        {
            throw new ArgumentOutOfRangeException(
                nameof(offset), $"no configuration access has {size} bytes at offset {offset}");
        }
    }
}
