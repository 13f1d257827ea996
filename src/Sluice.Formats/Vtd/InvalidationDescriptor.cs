namespace Sluice.Formats.Vtd;

/// <summary>What an invalidation-queue descriptor asks for (bits 3:0 of the first word).</summary>
public enum InvalidationType : byte
{
    /// <summary>Cached context entries.</summary>
    ContextCache = 1,

    /// <summary>Cached translations.</summary>
    Iotlb = 2,

    /// <summary>Translations that a device itself caches (ATS).</summary>
    DeviceTlb = 3,

    /// <summary>Cached interrupt-remapping entries.</summary>
    InterruptEntryCache = 4,

    /// <summary>Nothing: a status store, an interrupt, or a fence, once everything before it has completed.</summary>
    Wait = 5,

    /// <summary>Translations of a process address space (scalable mode).</summary>
    PasidIotlb = 6,

    /// <summary>Cached process-address-space entries (scalable mode).</summary>
    PasidCache = 7,
}

/// <summary>
/// How much a context-cache or IOTLB invalidation covers; the same codes in registers and descriptors.
/// </summary>
public enum InvalidationGranularity : byte
{
    /// <summary>Not a valid request.</summary>
    Reserved = 0,

    /// <summary>Everything.</summary>
    Global = 1,

    /// <summary>One domain.</summary>
    Domain = 2,

    /// <summary>One device (context cache) or one aligned run of pages of one domain (IOTLB).</summary>
    Selective = 3,
}

/// <summary>
/// One 128-bit slot of the invalidation queue.
/// <code>
///  context cache  low: 49:48 function mask │ 47:32 source id │ 31:16 domain │ 5:4 granularity │ 3:0 = 1
///  IOTLB          low: 31:16 domain │ 7 drain reads │ 6 drain writes │ 5:4 granularity │ 3:0 = 2
///                high: 63:12 address │ 6 hint: only leaves changed │ 5:0 address mask (2^AM pages)
///  device TLB     low: 63:52,15:12 PF source id │ 47:32 source id │ 20:16 max pending │ 3:0 = 3
///                high: 63:12 address │ 0 S
///  interrupt      low: 47:32 index │ 31:27 index mask │ 4 index-selective │ 3:0 = 4
///  wait           low: 63:32 status data │ 7 page-request drain │ 6 fence │ 5 status write │ 4 interrupt │ 3:0 = 5
///                high: 63:2 status address
/// </code>
/// </summary>
/// <remarks>VT-d specification 6.5.2; Linux dmar.c, QEMU and FreeBSD agree on these positions.</remarks>
/// <param name="Low">Bits 63:0.</param>
/// <param name="High">Bits 127:64.</param>
public readonly record struct InvalidationDescriptor(ulong Low, ulong High)
{
    /// <summary>Bytes per descriptor in a queue of 128-bit descriptors.</summary>
    public const int Size = 16;

    private const ulong ContextReserved = 0xFFFC_0000_0000_FFC0;
    private const ulong IotlbLowReserved = 0xFFFF_FFFF_0000_FF00;
    private const ulong IotlbHighReserved = 0xF80;
    private const ulong InterruptReserved = 0xFFFF_0000_07FF_FFE0;
    // Bit 7 (page-request drain) is reserved where ECAP.PDS is clear, as in every unit of legacy mode.
    private const ulong WaitLowReserved = 0xFFFF_FF80;
    private const ulong WaitHighReserved = 0x3;
    private const ulong DeviceLowReserved = 0x000F_0000_FFE0_0FF0;
    private const ulong DeviceHighReserved = 0xFFE;

    /// <summary>The request; bits 11:9 must be zero for all types below 16.</summary>
    public InvalidationType Type => (InvalidationType)(Low.Field(0, 4) | (Low.Field(9, 3) << 4));

    /// <summary>Coverage of a context-cache or IOTLB request.</summary>
    public InvalidationGranularity Granularity => (InvalidationGranularity)Low.Field(4, 2);

    /// <summary>Whether an interrupt-entry request names an index; otherwise it covers all.</summary>
    public bool IsIndexSelective => Low.Bit(4);

    /// <summary>The domain of a context-cache or IOTLB request.</summary>
    public ushort DomainId => (ushort)Low.Field(16, 16);

    /// <summary>The function of a context-cache or device-TLB request.</summary>
    public RequesterId Source => new((ushort)Low.Field(32, 16));

    /// <summary>How many bits of the function number, from the top, a context-cache request ignores: 0 to 3.</summary>
    public int FunctionMask => (int)Low.Field(48, 2);

    /// <summary>The run of pages of an IOTLB request: 2^n pages.</summary>
    public int AddressMask => (int)High.Field(0, 6);

    /// <summary>Where the run of an IOTLB request starts, before masking.</summary>
    public LogicalAddress Address => new(High & ~0xFFFUL);

    /// <summary>Whether an IOTLB request waits for reads in flight.</summary>
    public bool DrainsReads => Low.Bit(7);

    /// <summary>Whether an IOTLB request waits for writes in flight.</summary>
    public bool DrainsWrites => Low.Bit(6);

    /// <summary>The first interrupt entry of an index-selective request.</summary>
    public ushort InterruptIndex => (ushort)Low.Field(32, 16);

    /// <summary>How many low bits of the index are ignored.</summary>
    public int InterruptIndexMask => (int)Low.Field(27, 5);

    /// <summary>Wait: raise the completion interrupt.</summary>
    public bool RaisesInterrupt => Low.Bit(4);

    /// <summary>Wait: store <see cref="StatusData"/> at <see cref="StatusAddress"/>.</summary>
    public bool WritesStatus => Low.Bit(5);

    /// <summary>Wait: nothing after it starts before everything before it has completed.</summary>
    public bool IsFence => Low.Bit(6);

    /// <summary>Wait: what to store.</summary>
    public uint StatusData => (uint)(Low >> 32);

    /// <summary>Wait: where to store it.</summary>
    public PhysicalAddress StatusAddress => new(High & ~3UL);

    /// <summary>
    /// Whether the type is unknown in legacy mode, or a bit is set that must not be: the queue stops here.
    /// </summary>
    public bool IsMalformed => Type switch
    {
        InvalidationType.ContextCache => (Low & ContextReserved) != 0 || High != 0,
        InvalidationType.Iotlb => (Low & IotlbLowReserved) != 0 || (High & IotlbHighReserved) != 0,
        InvalidationType.DeviceTlb => (Low & DeviceLowReserved) != 0 || (High & DeviceHighReserved) != 0,
        InvalidationType.InterruptEntryCache => (Low & InterruptReserved) != 0 || High != 0,
        InvalidationType.Wait => (Low & WaitLowReserved) != 0 || (High & WaitHighReserved) != 0,
        _ => true,
    };

    /// <summary>Drops cached context entries: all, one domain's, or one function's.</summary>
    public static InvalidationDescriptor ForContextCache(
        InvalidationGranularity granularity, ushort domainId = 0, RequesterId source = default,
        int functionMask = 0) => new(
            (ulong)InvalidationType.ContextCache | ((ulong)granularity << 4) | ((ulong)domainId << 16)
            | ((ulong)source.Value << 32) | ((ulong)functionMask << 48), 0);

    /// <summary>Drops cached translations and drains reads and writes that may have used them.</summary>
    /// <param name="granularity">Coverage.</param>
    /// <param name="domainId">For domain and page coverage.</param>
    /// <param name="address">For page coverage: aligned to the run.</param>
    /// <param name="addressMask">For page coverage: 2^n pages.</param>
    /// <param name="onlyLeavesChanged">Hint: no table pointer changed.</param>
    public static InvalidationDescriptor ForIotlb(
        InvalidationGranularity granularity, ushort domainId = 0, LogicalAddress address = default,
        int addressMask = 0, bool onlyLeavesChanged = false) => new(
            (ulong)InvalidationType.Iotlb | ((ulong)granularity << 4) | (1UL << 6) | (1UL << 7)
            | ((ulong)domainId << 16),
            granularity == InvalidationGranularity.Selective
                ? address.AlignDown(12).Value | VtdWords.Flag(onlyLeavesChanged, 6) | (uint)addressMask
                : 0);

    /// <summary>
    /// Stores <paramref name="data"/> at <paramref name="status"/> once everything before has completed.
    /// </summary>
    public static InvalidationDescriptor ForWait(PhysicalAddress status, uint data, bool interrupt = false) => new(
        (ulong)InvalidationType.Wait | VtdWords.Flag(interrupt, 4) | (1UL << 5) | (1UL << 6) | ((ulong)data << 32),
        status.Value & ~3UL);

    /// <summary>The fields in words.</summary>
    public override string ToString() => Type switch
    {
        _ when IsMalformed => $"malformed descriptor 0x{High:X16}_{Low:X16}",
        InvalidationType.ContextCache =>
            $"context cache: {Granularity} domain {DomainId} source {Source} mask {FunctionMask}",
        InvalidationType.Iotlb => $"IOTLB: {Granularity} domain {DomainId} address {Address} mask {AddressMask}",
        InvalidationType.Wait => $"wait: 0x{StatusData:X} to {StatusAddress}{(RaisesInterrupt ? ", interrupt" : "")}",
        _ => $"{Type} descriptor 0x{High:X16}_{Low:X16}",
    };
}
