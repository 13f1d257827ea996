using Sluice.Formats.Vtd;

namespace Sluice.Formats.Tests.Vtd;

/// <summary>
/// Every fault reason of legacy mode: its code, whether a context's FPD silences it (QEMU's table), its cause, its
/// words.
/// </summary>
public sealed class VtdFaultReasonTests
{
    // Seen failing: an absent root entry silenced by FPD.
    [Theory]
    [InlineData(0x00, false, FaultCause.Other, "none")]
    [InlineData(0x01, false, FaultCause.NotAttached, "root entry not present")]
    [InlineData(0x02, true, FaultCause.NotAttached, "context entry not present")]
    [InlineData(0x03, true, FaultCause.MalformedTables, "invalid context entry")]
    [InlineData(0x04, true, FaultCause.AddressTooWide, "address beyond width")]
    [InlineData(0x05, true, FaultCause.AccessDenied, "write permission")]
    [InlineData(0x06, true, FaultCause.AccessDenied, "read permission")]
    [InlineData(0x07, true, FaultCause.TableUnreachable, "page table unreachable")]
    [InlineData(0x08, false, FaultCause.TableUnreachable, "root table unreachable")]
    [InlineData(0x09, false, FaultCause.TableUnreachable, "context table unreachable")]
    [InlineData(0x0A, false, FaultCause.MalformedTables, "reserved bits in root entry")]
    [InlineData(0x0B, true, FaultCause.MalformedTables, "reserved bits in context entry")]
    [InlineData(0x0C, true, FaultCause.MalformedTables, "reserved bits in paging entry")]
    [InlineData(0x0D, true, FaultCause.RequestBlocked, "request type blocked")]
    [InlineData(0x0E, true, FaultCause.InterruptWindow, "interrupt window")]
    [InlineData(0x0F, true, FaultCause.Other, "unknown")]
    [InlineData(0x1F, true, FaultCause.Other, "unknown")]
    [InlineData(0x20, true, FaultCause.InterruptWindow, "reserved field in interrupt request")]
    [InlineData(0x21, true, FaultCause.InterruptWindow, "interrupt index beyond table")]
    [InlineData(0x22, true, FaultCause.InterruptWindow, "interrupt entry not present")]
    [InlineData(0x23, true, FaultCause.InterruptWindow, "interrupt table unreachable")]
    [InlineData(0x24, true, FaultCause.InterruptWindow, "reserved bits in interrupt entry")]
    [InlineData(0x25, true, FaultCause.InterruptWindow, "compatibility-format interrupt blocked")]
    [InlineData(0x26, true, FaultCause.InterruptWindow, "interrupt source check failed")]
    [InlineData(0x27, true, FaultCause.Other, "unknown")]
    [InlineData(0x30, false, FaultCause.MalformedTables, "unsupported root table mode")]
    [InlineData(0x31, false, FaultCause.RequestBlocked, "request with PASID in legacy mode")]
    public void AReasonMeansThis(byte code, bool isQualified, FaultCause cause, string words)
    {
        VtdFaultReason reason = (VtdFaultReason)code;
        Assert.Equal(isQualified, reason.IsQualified());
        Assert.Equal(cause, reason.ToCause());
        Assert.Equal($"VT-d reason 0x{code:X2}, {words}", reason.Describe());
    }
}
