namespace Sluice.Formats.Vtd;

/// <summary>Fault reason codes of legacy mode and interrupt remapping.</summary>
/// <remarks>VT-d specification appendix A; Linux dmar.c and QEMU agree.</remarks>
public enum VtdFaultReason : byte
{
    /// <summary>No fault.</summary>
    None = 0,

    /// <summary>The root entry is not present.</summary>
    RootNotPresent = 0x1,

    /// <summary>The context entry is not present.</summary>
    ContextNotPresent = 0x2,

    /// <summary>The context entry is invalid: width, type or combination the unit does not support.</summary>
    ContextInvalid = 0x3,

    /// <summary>The address is wider than the unit or the domain allows.</summary>
    AddressBeyondWidth = 0x4,

    /// <summary>A write without write permission, or with no mapping.</summary>
    NoWritePermission = 0x5,

    /// <summary>A read without read permission, or with no mapping.</summary>
    NoReadPermission = 0x6,

    /// <summary>A page table lies where there is no memory.</summary>
    PagingEntryAccess = 0x7,

    /// <summary>The root table lies where there is no memory.</summary>
    RootTableAccess = 0x8,

    /// <summary>A context table lies where there is no memory.</summary>
    ContextTableAccess = 0x9,

    /// <summary>Reserved bits in the root entry.</summary>
    RootReserved = 0xA,

    /// <summary>Reserved bits in the context entry.</summary>
    ContextReserved = 0xB,

    /// <summary>Reserved bits in a paging entry.</summary>
    PagingEntryReserved = 0xC,

    /// <summary>A translated or translation request that the context's type blocks.</summary>
    RequestBlocked = 0xD,

    /// <summary>
    /// The translated address lies in the interrupt window; also used for a request to the window that is no interrupt.
    /// </summary>
    OutputInInterruptWindow = 0xE,

    /// <summary>Reserved field in a remappable interrupt request.</summary>
    InterruptReserved = 0x20,

    /// <summary>Interrupt index beyond the table.</summary>
    InterruptIndex = 0x21,

    /// <summary>The interrupt-remapping entry is not present.</summary>
    InterruptNotPresent = 0x22,

    /// <summary>The interrupt-remapping table lies where there is no memory.</summary>
    InterruptTableAccess = 0x23,

    /// <summary>Reserved bits in the interrupt-remapping entry.</summary>
    InterruptEntryReserved = 0x24,

    /// <summary>A compatibility-format interrupt while those are blocked.</summary>
    InterruptCompatibilityBlocked = 0x25,

    /// <summary>The interrupt's source is not the one the entry names.</summary>
    InterruptSource = 0x26,

    /// <summary>The root table address register asks for a mode that the unit does not have.</summary>
    RootTableAddressInvalid = 0x30,

    /// <summary>A request with a PASID, while the root table is one of legacy mode.</summary>
    PasidInLegacyMode = 0x31,
}

/// <summary>What is known of a fault reason.</summary>
public static class VtdFaultReasons
{
    /// <summary>
    /// Whether the context entry's FPD bit silences it: all but those met before a context entry was read.
    /// </summary>
    public static bool IsQualified(this VtdFaultReason reason) => reason is not (
        VtdFaultReason.None or VtdFaultReason.RootNotPresent or VtdFaultReason.RootTableAccess
        or VtdFaultReason.RootReserved or VtdFaultReason.ContextTableAccess or VtdFaultReason.RootTableAddressInvalid
        or VtdFaultReason.PasidInLegacyMode);

    /// <summary>The cause in the words that all units share.</summary>
    public static FaultCause ToCause(this VtdFaultReason reason) => reason switch
    {
        VtdFaultReason.RootNotPresent or VtdFaultReason.ContextNotPresent => FaultCause.NotAttached,
        VtdFaultReason.NoReadPermission or VtdFaultReason.NoWritePermission => FaultCause.AccessDenied,
        VtdFaultReason.AddressBeyondWidth => FaultCause.AddressTooWide,
        VtdFaultReason.ContextInvalid or VtdFaultReason.RootReserved or VtdFaultReason.ContextReserved
            or VtdFaultReason.PagingEntryReserved or VtdFaultReason.RootTableAddressInvalid
            => FaultCause.MalformedTables,
        VtdFaultReason.RootTableAccess or VtdFaultReason.ContextTableAccess or VtdFaultReason.PagingEntryAccess
            => FaultCause.TableUnreachable,
        VtdFaultReason.RequestBlocked or VtdFaultReason.PasidInLegacyMode => FaultCause.RequestBlocked,
        VtdFaultReason.OutputInInterruptWindow => FaultCause.InterruptWindow,
        >= VtdFaultReason.InterruptReserved and <= VtdFaultReason.InterruptSource => FaultCause.InterruptWindow,
        _ => FaultCause.Other,
    };

    /// <summary>
    /// Code and meaning, as <c>VT-d reason 0x05, write permission</c>. Unknown codes keep their number.
    /// </summary>
    public static string Describe(this VtdFaultReason reason) => reason switch
    {
        VtdFaultReason.None => "VT-d reason 0x00, none",
        VtdFaultReason.RootNotPresent => "VT-d reason 0x01, root entry not present",
        VtdFaultReason.ContextNotPresent => "VT-d reason 0x02, context entry not present",
        VtdFaultReason.ContextInvalid => "VT-d reason 0x03, invalid context entry",
        VtdFaultReason.AddressBeyondWidth => "VT-d reason 0x04, address beyond width",
        VtdFaultReason.NoWritePermission => "VT-d reason 0x05, write permission",
        VtdFaultReason.NoReadPermission => "VT-d reason 0x06, read permission",
        VtdFaultReason.PagingEntryAccess => "VT-d reason 0x07, page table unreachable",
        VtdFaultReason.RootTableAccess => "VT-d reason 0x08, root table unreachable",
        VtdFaultReason.ContextTableAccess => "VT-d reason 0x09, context table unreachable",
        VtdFaultReason.RootReserved => "VT-d reason 0x0A, reserved bits in root entry",
        VtdFaultReason.ContextReserved => "VT-d reason 0x0B, reserved bits in context entry",
        VtdFaultReason.PagingEntryReserved => "VT-d reason 0x0C, reserved bits in paging entry",
        VtdFaultReason.RequestBlocked => "VT-d reason 0x0D, request type blocked",
        VtdFaultReason.OutputInInterruptWindow => "VT-d reason 0x0E, interrupt window",
        VtdFaultReason.InterruptReserved => "VT-d reason 0x20, reserved field in interrupt request",
        VtdFaultReason.InterruptIndex => "VT-d reason 0x21, interrupt index beyond table",
        VtdFaultReason.InterruptNotPresent => "VT-d reason 0x22, interrupt entry not present",
        VtdFaultReason.InterruptTableAccess => "VT-d reason 0x23, interrupt table unreachable",
        VtdFaultReason.InterruptEntryReserved => "VT-d reason 0x24, reserved bits in interrupt entry",
        VtdFaultReason.InterruptCompatibilityBlocked => "VT-d reason 0x25, compatibility-format interrupt blocked",
        VtdFaultReason.InterruptSource => "VT-d reason 0x26, interrupt source check failed",
        VtdFaultReason.RootTableAddressInvalid => "VT-d reason 0x30, unsupported root table mode",
        VtdFaultReason.PasidInLegacyMode => "VT-d reason 0x31, request with PASID in legacy mode",
        _ => $"VT-d reason 0x{(byte)reason:X2}, unknown",
    };
}
