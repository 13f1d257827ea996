namespace Sluice;

/// <summary>A memory BAR as operating-system code found and placed it.</summary>
/// <param name="Index">0 to 5.</param>
/// <param name="Size">Bytes, a power of two.</param>
/// <param name="Is64Bit">Whether it takes two registers.</param>
/// <param name="First">Where it lies; zero while it has no address.</param>
public readonly record struct PciBarWindow(int Index, ulong Size, bool Is64Bit, PhysicalAddress First)
{
    /// <summary>The addresses it answers at.</summary>
    public PhysicalRange Range => PhysicalRange.FromLength(First, Size);
}
