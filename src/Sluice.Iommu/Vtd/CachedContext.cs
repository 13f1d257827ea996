using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>
/// What the context cache keeps of a context entry, in one word.
/// <code>
///  63                        24 23        8  7   6   5  4    2 1 0
/// ┌────────────────────────────┬───────────┬───┬───┬───┬──────┬───┐      R:  every request is refused, for this reason
/// │   table frame or reason    │  domain   │ R │ PT│FPD│ top  │ 0 │      PT: every request passes untranslated
/// └────────────────────────────┴───────────┴───┴───┴───┴──────┴───┘
/// </code>
/// </summary>
/// <remarks>
/// R and PT lie below the domain because they are part of the tag that cached pages are found by: a page is only ever
/// kept for a context that translates, so a refusal or a pass-through context matches none, whatever its domain says.
/// </remarks>
internal readonly record struct CachedContext(ulong Word)
{
    /// <summary>The bits of the domain id.</summary>
    internal const ulong DomainMask = 0xFFFF00;

    private const ulong RefusedBit = 1 << 7;
    private const ulong PassThroughBit = 1 << 6;
    private const ulong FaultsDisabledBit = 1 << 5;
    private const ulong TagMask = DomainMask | RefusedBit | PassThroughBit;

    internal bool IsRefused => (Word & RefusedBit) != 0;

    internal bool FaultsDisabled => (Word & FaultsDisabledBit) != 0;

    internal bool IsPassThrough => (Word & PassThroughBit) != 0;

    internal VtdFaultReason Reason => IsRefused ? (VtdFaultReason)(byte)(Word >> 24) : VtdFaultReason.None;

    internal PhysicalAddress Table => new(Word >> 24 << 12);

    internal int TopLevel => (int)(Word >> 2) & 7;

    /// <summary>How many address bits the tables translate: 39, 48 or 57.</summary>
    internal int AddressBits => 21 + 9 * TopLevel;

    /// <summary>The domain and the two bits that no cached page has, where the keys of pages have them.</summary>
    internal ulong Tag => (Word & TagMask) << (TranslationCache.SpaceShift - 8);

    internal static CachedContext For(in ContextEntry entry) => new(
        (entry.SecondStageTable.Value >> 12 << 24)
        | ((ulong)entry.DomainId << 8)
        | (entry.FaultsDisabled ? FaultsDisabledBit : 0)
        | (entry.TranslationType == TranslationType.PassThrough ? PassThroughBit : 0)
        | ((ulong)(uint)entry.TopLevel << 2));

    internal static CachedContext Refused(VtdFaultReason reason, bool faultsDisabled) =>
        new(((ulong)reason << 24) | RefusedBit | (faultsDisabled ? FaultsDisabledBit : 0));

    /// <summary>
    /// The cache's key: never zero, and different for any two sources: what is no PCI function is never found.
    /// </summary>
    internal static ulong KeyOf(SourceId source) => ~source.Word;
}
