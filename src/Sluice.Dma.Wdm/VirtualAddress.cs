using System.Globalization;

namespace Sluice.Dma.Wdm;

/// <summary>
/// Where a driver believes its buffer to be. The DDI takes it as an index into an MDL, never as an address: only its
/// distance from the MDL's own virtual address says anything.
/// </summary>
/// <param name="Value">The number; 0 is the null pointer.</param>
public readonly record struct VirtualAddress(ulong Value)
{
    private const ulong DirectMap = 0xFFFF_8000_0000_0000;

    /// <summary>The null pointer.</summary>
    public static VirtualAddress Null => default;

    /// <summary>
    /// MmGetMdlVirtualAddress: where the MDL's buffer starts. Every frame is seen at a fixed distance from its physical
    /// address, as in a direct map, so that one MDL always has one address and no other MDL over other frames has it.
    /// </summary>
    public static VirtualAddress Of(Mdl mdl)
    {
        ArgumentNullException.ThrowIfNull(mdl);
        return new(DirectMap + mdl.Pages[0].Value + (uint)mdl.ByteOffset);
    }

    /// <summary>The address <paramref name="bytes"/> above.</summary>
    public static VirtualAddress operator +(VirtualAddress address, ulong bytes) =>
        new(unchecked(address.Value + bytes));

    /// <summary>The distance in bytes from <paramref name="first"/> up to <paramref name="second"/>.</summary>
    public static ulong operator -(VirtualAddress second, VirtualAddress first) =>
        unchecked(second.Value - first.Value);

    /// <summary>As <c>0xFFFF800001000000</c>.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"0x{Value:X16}");
}
