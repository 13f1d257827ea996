namespace Sluice.Formats.Vtd;

/// <summary>
/// One fault recording register (FRCD), 128 bits.
/// <code>
///  low:  63:12 page address (interrupt faults: index in 63:48)
///  high: 63 F (write 1 to clear) │ 62 T (1 = read) │ 61:60 address type │ 59:40 PASID │ 39:32 reason │
///        31 PASID present │ 15:0 source id
/// </code>
/// </summary>
/// <remarks>VT-d specification 11.4.14; Linux dmar.c and QEMU agree.</remarks>
/// <param name="Low">Bits 63:0.</param>
/// <param name="High">Bits 127:64.</param>
public readonly record struct FaultRecord(ulong Low, ulong High)
{
    /// <summary>Bytes per register.</summary>
    public const int Size = 16;

    /// <summary>The F bit in the high word.</summary>
    public const ulong ValidBit = 1UL << 63;

    /// <summary>Whether the record is waiting to be read.</summary>
    public bool IsValid => (High & ValidBit) != 0;

    /// <summary>The page that the request touched; the byte in it is not recorded.</summary>
    public LogicalAddress Page => new(Low & ~0xFFFUL);

    /// <summary>Who asked.</summary>
    public RequesterId Source => new((ushort)High);

    /// <summary>Why it was refused.</summary>
    public VtdFaultReason Reason => (VtdFaultReason)High.Field(32, 8);

    /// <summary>Whether the request was a read.</summary>
    public bool IsRead => High.Bit(62);

    /// <summary>What the request tried.</summary>
    public DmaAccess Access => IsRead ? DmaAccess.Read : DmaAccess.Write;

    /// <summary>The PASID of the request; null when it had none.</summary>
    public Pasid? Pasid => High.Bit(31) ? new Pasid((uint)High.Field(40, 20)) : null;

    /// <summary>Whether the request was an ordinary one; AT 1 is a translation request, 2 a translated one.</summary>
    public DmaRequestKind Kind => High.Field(60, 2) switch
    {
        1 => DmaRequestKind.TranslationRequest,
        2 => DmaRequestKind.Translated,
        _ => DmaRequestKind.Untranslated,
    };

    /// <summary>A record waiting to be read.</summary>
    /// <param name="request">What was refused: its sender, page, kind and PASID are kept. Any read is a read.</param>
    /// <param name="reason">Why.</param>
    public static FaultRecord For(in DmaRequest request, VtdFaultReason reason) => new(
        request.Address.AlignDown(12).Value,
        request.Source.Requester.Value
        | (request.Pasid is { } pasid ? (1UL << 31) | ((ulong)pasid.Value << 40) : 0)
        | ((ulong)reason << 32)
        | AddressType(request.Kind)
        | VtdWords.Flag((request.Access & DmaAccess.Read) != 0, 62)
        | ValidBit);

    private static ulong AddressType(DmaRequestKind kind) => kind switch
    {
        DmaRequestKind.TranslationRequest => 1UL << 60,
        DmaRequestKind.Translated => 2UL << 60,
        _ => 0,
    };

    /// <summary>The fields in words.</summary>
    public override string ToString() => IsValid ? $"{Source} {Access} {Page}: {Reason.Describe()}" : "no fault";
}
