namespace Sluice;

/// <summary>
/// A device's registers. Each call is one access of exactly its width at exactly its offset, never merged, split,
/// narrowed or repeated: the just-in-time compiler does all four to plain reads, and hardware answers differently to
/// each.
/// </summary>
/// <remarks>
/// Offsets are bytes from the window's start and must be aligned to the access.
/// An access outside the window or unaligned is a programming error and throws; what a device does with an access
/// inside the window that it does not support is the device's business. Safe from any thread, as far as the device is.
/// </remarks>
public abstract class RegisterWindow
{
    /// <summary>The window's size in bytes.</summary>
    public abstract uint Length { get; }

    /// <summary>One 8-bit read.</summary>
    public abstract byte Read8(uint offset);

    /// <summary>One 16-bit read.</summary>
    public abstract ushort Read16(uint offset);

    /// <summary>One 32-bit read.</summary>
    public abstract uint Read32(uint offset);

    /// <summary>One 64-bit read.</summary>
    public abstract ulong Read64(uint offset);

    /// <summary>One 8-bit write.</summary>
    public abstract void Write8(uint offset, byte value);

    /// <summary>One 16-bit write.</summary>
    public abstract void Write16(uint offset, ushort value);

    /// <summary>One 32-bit write.</summary>
    public abstract void Write32(uint offset, uint value);

    /// <summary>One 64-bit write.</summary>
    public abstract void Write64(uint offset, ulong value);

    /// <summary>
    /// Throws unless an access of <paramref name="size"/> bytes at <paramref name="offset"/> is aligned and inside.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">It is not.</exception>
    protected void Check(uint offset, uint size)
    {
        if ((offset & (size - 1)) != 0 || offset >= Length || Length - offset < size)
        {
            throw new ArgumentOutOfRangeException(
                nameof(offset),
                $"a {size}-byte register access at 0x{offset:X} is unaligned "
                + $"or outside the window of 0x{Length:X} bytes");
        }
    }
}

/// <summary>
/// The x86 port space: PCI configuration (<see cref="PciPorts"/>) and old devices. Machines that have one show it.
/// </summary>
public interface IPortIo
{
    /// <summary>
    /// Held over what takes two port accesses that belong together: the address and the data of a configuration cycle
    /// (<see cref="PciPorts"/>). One per machine; whoever wraps a port space hands out the same one. Nothing
    /// else is done under it.
    /// </summary>
    Lock TwoStepAccess { get; }

    /// <summary>One 8-bit port read; all ones where nothing answers.</summary>
    byte In8(ushort port);

    /// <summary>One 16-bit port read; all ones where nothing answers.</summary>
    ushort In16(ushort port);

    /// <summary>One 32-bit port read; all ones where nothing answers.</summary>
    uint In32(ushort port);

    /// <summary>One 8-bit port write.</summary>
    void Out8(ushort port, byte value);

    /// <summary>One 16-bit port write.</summary>
    void Out16(ushort port, ushort value);

    /// <summary>One 32-bit port write.</summary>
    void Out32(ushort port, uint value);
}
