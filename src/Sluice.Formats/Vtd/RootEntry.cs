namespace Sluice.Formats.Vtd;

/// <summary>
/// One slot of the legacy root table: which context table serves a bus. 16 bytes, 256 slots in a 4 KiB table, indexed
/// by bus.
/// <code>
///  63                                    12 11            1  0
/// ┌────────────────────────────────────────┬───────────────┬──┐
/// │        context table [63:12]           │   reserved    │ P│  low word
/// ├────────────────────────────────────────┴───────────────┴──┤
/// │                        reserved                           │  high word
/// └───────────────────────────────────────────────────────────┘
/// </code>
/// </summary>
/// <remarks>VT-d specification 9.1; formats of Linux iommu.h and QEMU intel_iommu_internal.h agree.</remarks>
/// <param name="Low">Bits 63:0.</param>
/// <param name="High">Bits 127:64.</param>
public readonly record struct RootEntry(ulong Low, ulong High)
{
    /// <summary>Bytes per entry.</summary>
    public const int Size = 16;

    /// <summary>Entries per table, one per bus.</summary>
    public const int Count = 256;

    private const ulong PresentBit = 1;
    private const ulong AddressMask = ~0xFFFUL;
    private const ulong LowReserved = 0xFFE;

    /// <summary>Whether the bus has a context table.</summary>
    public bool IsPresent => (Low & PresentBit) != 0;

    /// <summary>The context table.</summary>
    public PhysicalAddress ContextTable => new(Low & AddressMask);

    /// <summary>
    /// Whether a bit is set that must not be, on hardware with <paramref name="addressBits"/> physical address bits.
    /// </summary>
    public bool HasReservedBits(int addressBits) =>
        (Low & (LowReserved | VtdWords.AboveWidth(addressBits))) != 0 || High != 0;

    /// <summary>A present entry.</summary>
    public static RootEntry For(PhysicalAddress contextTable) =>
        new((contextTable.Value & AddressMask) | PresentBit, 0);

    /// <summary>Where the entry of <paramref name="bus"/> lies.</summary>
    public static PhysicalAddress AddressOf(PhysicalAddress rootTable, byte bus) => rootTable + (ulong)bus * Size;

    /// <summary>The fields in words.</summary>
    public override string ToString() => IsPresent ? $"root entry: contexts at {ContextTable}" : "root entry: absent";
}
