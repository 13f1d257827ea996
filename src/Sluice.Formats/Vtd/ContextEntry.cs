namespace Sluice.Formats.Vtd;

/// <summary>What the unit does with untranslated requests of a function (context entry, TT).</summary>
public enum TranslationType : byte
{
    /// <summary>Untranslated requests go through the second-stage tables; the rest is blocked.</summary>
    Translated = 0,

    /// <summary>As <see cref="Translated"/>, and the function may hold translations of its own (ATS).</summary>
    TranslatedWithDeviceTlb = 1,

    /// <summary>Untranslated requests pass with their address unchanged.</summary>
    PassThrough = 2,

    /// <summary>Reserved: the entry is invalid.</summary>
    Reserved = 3,
}

/// <summary>
/// One slot of a legacy context table: the address space of a function. 16 bytes, 256 slots, indexed by device and
/// function.
/// <code>
///  63                                    12 11      4 3  2  1  0
/// ┌────────────────────────────────────────┬─────────┬─────┬──┬──┐
/// │      second-stage table [63:12]        │reserved │ TT  │FP│ P│  low word
/// ├────────────────────┬───────────────────┼─────────┼─┬───┴─┬┴──┤
/// │      reserved      │   domain [23:8]   │    –    │r│avail│AW │  high word: 63:24, 23:8, 7, 6:3, 2:0
/// └────────────────────┴───────────────────┴─────────┴─┴─────┴───┘
/// </code>
/// FP (fault processing disable) silences the qualified faults of the function; it does not let anything through.
/// </summary>
/// <remarks>VT-d specification 9.3; formats of Linux iommu.h and QEMU intel_iommu_internal.h agree.</remarks>
/// <param name="Low">Bits 63:0.</param>
/// <param name="High">Bits 127:64.</param>
public readonly record struct ContextEntry(ulong Low, ulong High)
{
    /// <summary>Bytes per entry.</summary>
    public const int Size = 16;

    /// <summary>Entries per table, one per device and function.</summary>
    public const int Count = 256;

    private const ulong PresentBit = 1;
    private const ulong FaultDisableBit = 2;
    private const ulong AddressMask = ~0xFFFUL;
    private const ulong LowReserved = 0xFF0;
    private const ulong HighReserved = ~0xFFFFFFUL | 0x80;

    /// <summary>Whether the function is attached.</summary>
    public bool IsPresent => (Low & PresentBit) != 0;

    /// <summary>Whether qualified faults of the function go unrecorded.</summary>
    public bool FaultsDisabled => (Low & FaultDisableBit) != 0;

    /// <summary>What happens to its requests.</summary>
    public TranslationType TranslationType => (TranslationType)Low.Field(2, 2);

    /// <summary>The top second-stage table.</summary>
    public PhysicalAddress SecondStageTable => new(Low & AddressMask);

    /// <summary>
    /// Address width code: 1 = 39 bits and 3 levels, 2 = 48 and 4, 3 = 57 and 5; the rest is invalid.
    /// </summary>
    public int AddressWidth => (int)High.Field(0, 3);

    /// <summary>The top level of the tables, counting leaves as level 0: 2, 3 or 4 for valid entries.</summary>
    public int TopLevel => AddressWidth + 1;

    /// <summary>The tag of the function's entries in the unit's caches.</summary>
    public ushort DomainId => (ushort)High.Field(8, 16);

    /// <summary>
    /// Whether a bit is set that must not be, on hardware with <paramref name="addressBits"/> physical address bits.
    /// </summary>
    public bool HasReservedBits(int addressBits) =>
        (Low & (LowReserved | VtdWords.AboveWidth(addressBits))) != 0 || (High & HighReserved) != 0;

    /// <summary>A present entry.</summary>
    /// <param name="type">What happens to requests.</param>
    /// <param name="secondStageTable">The top table; ignored for pass-through.</param>
    /// <param name="topLevel">2, 3 or 4 (leaves are level 0).</param>
    /// <param name="domainId">The cache tag.</param>
    /// <param name="faultsDisabled">Whether qualified faults go unrecorded.</param>
    public static ContextEntry For(
        TranslationType type, PhysicalAddress secondStageTable, int topLevel, ushort domainId,
        bool faultsDisabled = false) => new(
            (secondStageTable.Value & AddressMask) | ((ulong)type << 2) | VtdWords.Flag(faultsDisabled, 1) | PresentBit,
            ((ulong)domainId << 8) | (uint)(topLevel - 1));

    /// <summary>Where the entry of <paramref name="requester"/> lies in its bus's table.</summary>
    public static PhysicalAddress AddressOf(PhysicalAddress contextTable, RequesterId requester) =>
        contextTable + (ulong)requester.DeviceFunction * Size;

    /// <summary>The fields in words.</summary>
    public override string ToString() => IsPresent
        ? $"context entry: domain {DomainId}, {TranslationType}, {TopLevel + 1} levels at {SecondStageTable}"
            + (FaultsDisabled ? ", faults disabled" : "")
        : "context entry: absent";
}
