namespace Sluice.Machines;

/// <summary>One base address register of a function: its size, and where software has put it.</summary>
internal sealed class PciBar(int index, ulong size, bool is64Bit, bool prefetchable)
{
    private const ulong Nowhere = ulong.MaxValue;
    private ulong _base = Nowhere;

    public int Index { get; } = index;

    public ulong Size { get; } = size;

    /// <summary>Puts size and type into the configuration space.</summary>
    public void Describe(PciConfigSpace config)
    {
        int offset = PciConfig.FirstBar + Index * 4;
        ulong mask = ~(Size - 1);
        config.Set32(offset, (is64Bit ? PciConfig.Bar64 : 0) | (prefetchable ? PciConfig.BarPrefetchable : 0));
        config.Allow32(offset, (uint)mask & ~0xFu);
        if (is64Bit) { config.Allow32(offset + 4, (uint)(mask >> 32)); }
    }

    /// <summary>Takes over what software wrote.</summary>
    public void Update(PciConfigSpace config, bool decoding)
    {
        int offset = PciConfig.FirstBar + Index * 4;
        ulong address = config.Read(offset, 4) & ~0xFu;
        if (is64Bit) { address |= (ulong)config.Read(offset + 4, 4) << 32; }
        Volatile.Write(ref _base, decoding ? address : Nowhere);
    }

    /// <summary>The addresses at which it answers now; null while it answers nowhere.</summary>
    public PhysicalRange? Range => Volatile.Read(ref _base) is var start && start != Nowhere
        ? PhysicalRange.FromLength(new(start), Size)
        : null;

    /// <summary>Whether this BAR answers now at <paramref name="address"/>, and with which of its bytes.</summary>
    public bool Decodes(ulong address, out ulong offset)
    {
        ulong start = Volatile.Read(ref _base);
        offset = unchecked(address - start);
        return start != Nowhere && offset < Size;
    }
}
