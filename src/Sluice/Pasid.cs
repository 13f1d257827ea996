using System.Globalization;

namespace Sluice;

/// <summary>
/// A process address space identifier: which of its sender's address spaces a request means. 20 bits.
/// </summary>
/// <remarks>
/// PCI Express base specification, "PASID TLP prefix"; SMMUv3 calls it SubstreamID, the RISC-V IOMMU process_id.
/// </remarks>
public readonly record struct Pasid
{
    /// <summary>How many bits it has on the bus.</summary>
    public const int Bits = 20;

    /// <summary>A PASID.</summary>
    /// <param name="value">0 to 2^20 - 1.</param>
    /// <exception cref="ArgumentOutOfRangeException">It has more than 20 bits.</exception>
    public Pasid(uint value)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(value, 1u << Bits);
        Value = value;
    }

    /// <summary>The number, 0 to 2^20 - 1.</summary>
    public uint Value { get; }

    /// <summary>As <c>pasid 0x2a</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"pasid 0x{Value:x}");
}
