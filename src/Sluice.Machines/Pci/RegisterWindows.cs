namespace Sluice.Machines;

/// <summary>A window whose accesses become one call each with width and offset.</summary>
internal abstract class RoutedWindow(uint length) : RegisterWindow
{
    public sealed override uint Length { get; } = length;

    public sealed override byte Read8(uint offset) => (byte)Checked(offset, 1);

    public sealed override ushort Read16(uint offset) => (ushort)Checked(offset, 2);

    public sealed override uint Read32(uint offset) => (uint)Checked(offset, 4);

    public sealed override ulong Read64(uint offset) => Checked(offset, 8);

    public sealed override void Write8(uint offset, byte value) => Checked(offset, 1, value);

    public sealed override void Write16(uint offset, ushort value) => Checked(offset, 2, value);

    public sealed override void Write32(uint offset, uint value) => Checked(offset, 4, value);

    public sealed override void Write64(uint offset, ulong value) => Checked(offset, 8, value);

    protected abstract ulong Read(uint offset, int size);

    protected abstract void Write(uint offset, int size, ulong value);

    private ulong Checked(uint offset, int size)
    {
        Check(offset, (uint)size);
        return Read(offset, size);
    }

    private void Checked(uint offset, int size, ulong value)
    {
        Check(offset, (uint)size);
        Write(offset, size, value);
    }
}

/// <summary>
/// Part of a BAR, as a processor sees it at a physical address. When software moves the BAR away or stops its decoding,
/// nobody answers there: reads give all ones and writes are dropped.
/// </summary>
internal sealed class BarRegisterWindow(PciDevice device, PciBar bar, ulong address, uint length) : RoutedWindow(length)
{
    protected override ulong Read(uint offset, int size) =>
        bar.Decodes(address + offset, out ulong inside) ? device.ReadRegister(bar.Index, inside, size) : ulong.MaxValue;

    protected override void Write(uint offset, int size, ulong value)
    {
        if (bar.Decodes(address + offset, out ulong inside)) { device.WriteRegister(bar.Index, inside, size, value); }
    }
}

/// <summary>
/// Part of ECAM. 64-bit accesses are two 32-bit ones. When software moves ECAM away or disables it, nobody answers
/// here, as with a BAR.
/// </summary>
internal sealed class EcamRegisterWindow(PciHost host, PhysicalAddress first, uint length) : RoutedWindow(length)
{
    protected override ulong Read(uint offset, int size)
    {
        if (size == 8) { return Read(offset, 4) | (Read(offset + 4, 4) << 32); }
        return host.DecodesEcam(first + offset, out RequesterId id, out int at) ? host.Read(id, at, size)
            : uint.MaxValue;
    }

    protected override void Write(uint offset, int size, ulong value)
    {
        if (size == 8)
        {
            Write(offset, 4, (uint)value);
            Write(offset + 4, 4, value >> 32);
            return;
        }
        if (host.DecodesEcam(first + offset, out RequesterId id, out int at))
        {
            host.Write(id, at, size, (uint)value);
        }
    }
}

/// <summary>Part of another window.</summary>
internal sealed class SubWindow(RegisterWindow inner, uint start, uint length) : RegisterWindow
{
    public override uint Length { get; } = length;

    public override byte Read8(uint offset) => inner.Read8(At(offset, 1));

    public override ushort Read16(uint offset) => inner.Read16(At(offset, 2));

    public override uint Read32(uint offset) => inner.Read32(At(offset, 4));

    public override ulong Read64(uint offset) => inner.Read64(At(offset, 8));

    public override void Write8(uint offset, byte value) => inner.Write8(At(offset, 1), value);

    public override void Write16(uint offset, ushort value) => inner.Write16(At(offset, 2), value);

    public override void Write32(uint offset, uint value) => inner.Write32(At(offset, 4), value);

    public override void Write64(uint offset, ulong value) => inner.Write64(At(offset, 8), value);

    private uint At(uint offset, uint size)
    {
        Check(offset, size);
        return start + offset;
    }
}
