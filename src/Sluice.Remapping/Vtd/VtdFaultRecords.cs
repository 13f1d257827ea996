using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>The fault recording registers of one VT-d unit, and its fault status.</summary>
/// <remarks>
/// The unit names the first record (FSTS.FRI) only when there was none before, so while a reader frees records the name
/// grows old: the slot that it names is free, and the records that wait are behind it. A turn therefore begins there,
/// goes over every slot, and ends early only when the unit says that nothing waits. Records are freed before the
/// overflow bit, because nothing is recorded while that is set: what is lost until it is cleared belongs to the loss
/// that is told with it (VT-d specification 7.2 and 11.4.14).
/// </remarks>
/// <param name="clock">Time.</param>
/// <param name="registers">The unit.</param>
/// <param name="capability">Where the records are, and how many.</param>
/// <param name="segment">The unit's PCI segment.</param>
/// <param name="recoverQueue">Called when the unit says that its queue stopped.</param>
internal sealed class VtdFaultRecords(
    IPlatformClock clock, RegisterWindow registers, VtdCapability capability, ushort segment, Action recoverQueue)
    : IFaultRecords
{
    private const uint ValidHalf = (uint)(FaultRecord.ValidBit >> 32);
    private const uint CompletionFaults = VtdFaultStatus.CompletionError | VtdFaultStatus.CompletionTimeout;
    private static readonly string[] Reasons =
        [.. Enumerable.Range(0, 256).Select(code => ((VtdFaultReason)code).Describe())];

    private readonly uint _firstRecord = capability.FaultRecordOffset;
    private readonly int _records = capability.FaultRecords;

    /// <inheritdoc/>
    public bool ReadTurn(FaultReader reader)
    {
        uint status = registers.Read32(VtdRegister.FaultStatus);
        if ((status & VtdFaultStatus.QueueError) != 0) { recoverQueue(); }
        if ((status & CompletionFaults) != 0)
        {
            registers.Write32(VtdRegister.FaultStatus, status & CompletionFaults);
        }
        if ((status & (VtdFaultStatus.Pending | VtdFaultStatus.Overflow)) == 0) { return false; }
        if ((status & VtdFaultStatus.Pending) != 0) { ReadRecords(reader, VtdFaultStatus.FirstRecord(status)); }
        if ((status & VtdFaultStatus.Overflow) != 0)
        {
            registers.Write32(VtdRegister.FaultStatus, VtdFaultStatus.Overflow);
            reader.ReportLoss();
        }
        return true;
    }

    /// <inheritdoc/>
    public bool Answers()
    {
        _ = registers.Read32(VtdRegister.FaultStatus);
        return true;
    }

    private void ReadRecords(FaultReader reader, int first)
    {
        bool wasFree = false;
        for (int i = 0; i < _records; i++)
        {
            uint offset = _firstRecord + (uint)((first + i) % _records) * FaultRecord.Size;
            ulong high = registers.Read64(offset + 8);
            if ((high & FaultRecord.ValidBit) == 0)
            {
                // Usually the end of what waits; one look tells, and is not taken again until something was found.
                if (!wasFree && (registers.Read32(VtdRegister.FaultStatus) & VtdFaultStatus.Pending) == 0) { return; }
                wasFree = true;
                continue;
            }
            wasFree = false;
            FaultRecord record = new(registers.Read64(offset), high);
            // After the record: whatever the refused DMA saw was so before this.
            long now = clock.Nanoseconds;
            registers.Write32(offset + 12, ValidHalf);
            reader.Report(new(
                new(segment, record.Source), record.Page, 12, record.Access, record.Reason.ToCause(),
                (int)record.Reason, Reasons[(int)record.Reason & 0xFF], now));
        }
    }
}
