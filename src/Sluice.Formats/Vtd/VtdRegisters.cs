namespace Sluice.Formats.Vtd;

/// <summary>Offsets of the remapping registers in bytes from the unit's register base.</summary>
/// <remarks>VT-d specification 11.4; Linux iommu.h, QEMU, FreeBSD and OpenVMM agree. IVA, IOTLB and FRCD are found
/// through CAP and ECAP.</remarks>
public static class VtdRegister
{
    /// <summary>Bytes that every unit has: one page. What lies past it, the capability registers name.</summary>
    public const uint LeastLength = 0x1000;

    /// <summary>
    /// The first byte after the registers whose offsets are fixed in legacy mode: fault records and the registers of
    /// IOTLB invalidation lie here or above.
    /// </summary>
    public const uint FixedEnd = 0xC0;

    /// <summary>Version, 32 bits: 7:4 major, 3:0 minor.</summary>
    public const uint Version = 0x00;

    /// <summary>Capabilities, 64 bits: <see cref="VtdCapability"/>.</summary>
    public const uint Capability = 0x08;

    /// <summary>Extended capabilities, 64 bits: <see cref="VtdExtendedCapability"/>.</summary>
    public const uint ExtendedCapability = 0x10;

    /// <summary>Global command, 32 bits, write only: <see cref="VtdGlobal"/>.</summary>
    public const uint GlobalCommand = 0x18;

    /// <summary>Global status, 32 bits, read only: <see cref="VtdGlobal"/>.</summary>
    public const uint GlobalStatus = 0x1C;

    /// <summary>Root table address, 64 bits: 63:12 table, 11:10 mode. Latched by the set-root-table command.</summary>
    public const uint RootTableAddress = 0x20;

    /// <summary>Context command, 64 bits: <see cref="VtdContextCommand"/>.</summary>
    public const uint ContextCommand = 0x28;

    /// <summary>Fault status, 32 bits: <see cref="VtdFaultStatus"/>.</summary>
    public const uint FaultStatus = 0x34;

    /// <summary>Fault event control, 32 bits: 31 mask, 30 pending.</summary>
    public const uint FaultEventControl = 0x38;

    /// <summary>Fault event data, 32 bits.</summary>
    public const uint FaultEventData = 0x3C;

    /// <summary>Fault event address, 32 bits.</summary>
    public const uint FaultEventAddress = 0x40;

    /// <summary>Fault event upper address, 32 bits.</summary>
    public const uint FaultEventUpperAddress = 0x44;

    /// <summary>Advanced fault log, 64 bits.</summary>
    public const uint AdvancedFaultLog = 0x58;

    /// <summary>Protected memory enable, 32 bits: 31 enable, 0 status.</summary>
    public const uint ProtectedMemoryEnable = 0x64;

    /// <summary>Protected low memory base, 32 bits.</summary>
    public const uint ProtectedLowBase = 0x68;

    /// <summary>Protected low memory limit, 32 bits.</summary>
    public const uint ProtectedLowLimit = 0x6C;

    /// <summary>Protected high memory base, 64 bits.</summary>
    public const uint ProtectedHighBase = 0x70;

    /// <summary>Protected high memory limit, 64 bits.</summary>
    public const uint ProtectedHighLimit = 0x78;

    /// <summary>Invalidation queue head, 64 bits, read only: byte offset in 18:4.</summary>
    public const uint InvalidationQueueHead = 0x80;

    /// <summary>Invalidation queue tail, 64 bits: byte offset in 18:4.</summary>
    public const uint InvalidationQueueTail = 0x88;

    /// <summary>Invalidation queue address, 64 bits: 63:12 base, 11 descriptor width, 2:0 size (2^n × 4 KiB).</summary>
    public const uint InvalidationQueueAddress = 0x90;

    /// <summary>Invalidation completion status, 32 bits: bit 0 wait completed, write 1 to clear.</summary>
    public const uint InvalidationCompletionStatus = 0x9C;

    /// <summary>Invalidation event control, 32 bits: 31 mask, 30 pending.</summary>
    public const uint InvalidationEventControl = 0xA0;

    /// <summary>Invalidation event data, 32 bits.</summary>
    public const uint InvalidationEventData = 0xA4;

    /// <summary>Invalidation event address, 32 bits.</summary>
    public const uint InvalidationEventAddress = 0xA8;

    /// <summary>Invalidation event upper address, 32 bits.</summary>
    public const uint InvalidationEventUpperAddress = 0xAC;

    /// <summary>Invalidation queue error record, 64 bits.</summary>
    public const uint InvalidationQueueError = 0xB0;

    /// <summary>Interrupt remapping table address, 64 bits.</summary>
    public const uint InterruptRemappingTable = 0xB8;

    /// <summary>Event control: the event is masked.</summary>
    public const uint EventMask = 1u << 31;

    /// <summary>Event control: an event happened while masked.</summary>
    public const uint EventPending = 1u << 30;
}

/// <summary>
/// Bits of the global command and status registers. Software writes (status &amp; persistent bits) with one bit changed
/// and polls status.
/// </summary>
public static class VtdGlobal
{
    /// <summary>Translation enable.</summary>
    public const uint TranslationEnable = 1u << 31;

    /// <summary>Set root table pointer: one shot.</summary>
    public const uint SetRootTable = 1u << 30;

    /// <summary>Set fault log: one shot.</summary>
    public const uint SetFaultLog = 1u << 29;

    /// <summary>Enable advanced fault log.</summary>
    public const uint EnableAdvancedFaultLog = 1u << 28;

    /// <summary>Write buffer flush: one shot.</summary>
    public const uint WriteBufferFlush = 1u << 27;

    /// <summary>Queued invalidation enable.</summary>
    public const uint QueuedInvalidationEnable = 1u << 26;

    /// <summary>Interrupt remapping enable.</summary>
    public const uint InterruptRemappingEnable = 1u << 25;

    /// <summary>Set interrupt remapping table pointer: one shot.</summary>
    public const uint SetInterruptTable = 1u << 24;

    /// <summary>Compatibility-format interrupts pass.</summary>
    public const uint CompatibilityInterrupts = 1u << 23;

    /// <summary>The bits that stay set: what a command must carry over from the status.</summary>
    public const uint Persistent = TranslationEnable | EnableAdvancedFaultLog | QueuedInvalidationEnable
        | InterruptRemappingEnable | CompatibilityInterrupts;
}

/// <summary>Bits of the fault status register; 0, 4, 5 and 6 are cleared by writing 1.</summary>
public static class VtdFaultStatus
{
    /// <summary>A fault found no free recording register and was lost.</summary>
    public const uint Overflow = 1u << 0;

    /// <summary>Some recording register holds a fault (read only: the OR of all F bits).</summary>
    public const uint Pending = 1u << 1;

    /// <summary>The invalidation queue met a malformed descriptor and stopped.</summary>
    public const uint QueueError = 1u << 4;

    /// <summary>A device answered an invalidation wrongly.</summary>
    public const uint CompletionError = 1u << 5;

    /// <summary>A device did not answer an invalidation in time.</summary>
    public const uint CompletionTimeout = 1u << 6;

    /// <summary>The bits that writing 1 clears.</summary>
    public const uint WriteOneToClear = Overflow | QueueError | CompletionError | CompletionTimeout;

    /// <summary>The recording register that holds the first pending fault.</summary>
    public static int FirstRecord(uint status) => (int)(status >> 8) & 0xFF;
}

/// <summary>The context command register: context-cache invalidation by register.</summary>
/// <param name="Word">63 busy, 62:61 requested granularity, 60:59 done granularity, 33:32 function mask, 31:16 source
/// id, 15:0 domain.</param>
public readonly record struct VtdContextCommand(ulong Word)
{
    /// <summary>The busy bit: software sets it, the unit clears it.</summary>
    public const ulong Busy = 1UL << 63;

    /// <summary>What was asked.</summary>
    public InvalidationGranularity Requested => (InvalidationGranularity)Word.Field(61, 2);

    /// <summary>What was done, at least what was asked.</summary>
    public InvalidationGranularity Done => (InvalidationGranularity)Word.Field(59, 2);

    /// <summary>How many bits of the function number, from the top, to ignore: 0 to 3.</summary>
    public int FunctionMask => (int)Word.Field(32, 2);

    /// <summary>The function.</summary>
    public RequesterId Source => new((ushort)Word.Field(16, 16));

    /// <summary>The domain.</summary>
    public ushort DomainId => (ushort)Word;

    /// <summary>A request.</summary>
    public static VtdContextCommand For(
        InvalidationGranularity granularity, ushort domainId = 0, RequesterId source = default,
        int functionMask = 0) =>
        new(Busy | ((ulong)granularity << 61) | ((ulong)functionMask << 32) | ((ulong)source.Value << 16) | domainId);

    /// <summary>The register after the unit has done <paramref name="done"/>: not busy.</summary>
    public VtdContextCommand Completed(InvalidationGranularity done) =>
        new((Word & ~(Busy | (3UL << 59))) | ((ulong)done << 59));
}

/// <summary>The IOTLB invalidate register, 8 bytes above IVA.</summary>
/// <param name="Word">63 busy, 61:60 requested granularity, 58:57 done granularity, 49 drain reads, 48 drain writes,
/// 47:32 domain.</param>
public readonly record struct VtdIotlbCommand(ulong Word)
{
    /// <summary>The busy bit: software sets it, the unit clears it.</summary>
    public const ulong Busy = 1UL << 63;

    /// <summary>What was asked.</summary>
    public InvalidationGranularity Requested => (InvalidationGranularity)Word.Field(60, 2);

    /// <summary>What was done, at least what was asked.</summary>
    public InvalidationGranularity Done => (InvalidationGranularity)Word.Field(57, 2);

    /// <summary>The domain.</summary>
    public ushort DomainId => (ushort)Word.Field(32, 16);

    /// <summary>A request that drains reads and writes.</summary>
    public static VtdIotlbCommand For(InvalidationGranularity granularity, ushort domainId = 0) =>
        new(Busy | ((ulong)granularity << 60) | (1UL << 49) | (1UL << 48) | ((ulong)domainId << 32));

    /// <summary>The register after the unit has done <paramref name="done"/>: not busy.</summary>
    public VtdIotlbCommand Completed(InvalidationGranularity done) =>
        new((Word & ~(Busy | (3UL << 57))) | ((ulong)done << 57));
}
