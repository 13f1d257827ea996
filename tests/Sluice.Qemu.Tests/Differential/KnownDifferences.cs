using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>
/// The only ways in which the two machines may differ, each under the letter it has in docs/differences.md. Makes
/// registers equal that differ in such a way; whatever is unequal after it is an error of ours. One letter may be left
/// unforgiven, to see that the two still differ in just that way.
/// </summary>
internal sealed class KnownDifferences(SluiceTarget target, char unforgiven = ' ')
{
    private readonly PhysicalMemory _memory = target.Memory;
    private long _hits;
    private const ulong DoneMask = 3UL << 59;
    private static readonly int Status = Index("GSTS");
    private static readonly int FaultStatus = Index("FSTS");
    private static readonly int FaultEvent = Index("FECTL");
    private static readonly int ContextCommand = Index("CCMD");
    private static readonly int QueueAddress = Index("IQA");
    private static readonly int RootTable = Index("RTADDR");
    private static readonly int RecordLow = Index("FRCD.low");
    private static readonly int RecordHigh = Index("FRCD.high");

    /// <returns>Whether the fault records must be cleared on both sides before the program goes on.</returns>
    public bool Forgive(Step step, Span<ulong> ours, Span<ulong> theirs)
    {
        ForgetFreeRecord(ours);
        ForgetFreeRecord(theirs);
        long hits = target.Unit.Counters.Hits;
        bool resync = step is Step.Dma dma
            && (ForgiveRecord(dma, hits != _hits, ours, theirs)
                || ForgiveOverflow(dma, hits != _hits, ours, theirs)
                || ForgiveLoudContext(dma, ours, theirs));
        _hits = hits;
        if (unforgiven != 'b') { ForgiveServedEvent(ours, theirs); }
        if (unforgiven != 'f') { ForgiveWiderCommand(ours, theirs); }
        if (unforgiven != 'a') { ForgiveQueueAddress(ours, theirs); }
        return resync;
    }

    // (n) The other fields of a fault record mean nothing while F is clear.
    private static void ForgetFreeRecord(Span<ulong> values)
    {
        if ((values[RecordHigh] & FaultRecord.ValidBit) == 0) { (values[RecordLow], values[RecordHigh]) = (0, 0); }
    }

    // (a) QEMU shows IQA only once the queue was on.
    private static void ForgiveQueueAddress(Span<ulong> ours, Span<ulong> theirs)
    {
        if ((ours[Status] & theirs[Status] & VtdGlobal.QueuedInvalidationEnable) == 0)
        {
            ours[QueueAddress] = theirs[QueueAddress];
        }
    }

    // (b) A fault event is no longer pending when nothing is left to be told of; QEMU sees it when FSTS is written.
    private static void ForgiveServedEvent(Span<ulong> ours, Span<ulong> theirs)
    {
        const ulong Conditions = VtdFaultStatus.WriteOneToClear | VtdFaultStatus.Pending;
        if (((ours[FaultStatus] | theirs[FaultStatus]) & Conditions) == 0
            && (ours[FaultEvent] & VtdRegister.EventPending) == 0)
        {
            theirs[FaultEvent] &= ~(ulong)VtdRegister.EventPending;
        }
    }

    // (f) QEMU drops all contexts when asked for a domain's, and says so.
    private static void ForgiveWiderCommand(Span<ulong> ours, Span<ulong> theirs)
    {
        VtdContextCommand command = new(theirs[ContextCommand]);
        if (command.Done == InvalidationGranularity.Global && command.Requested == InvalidationGranularity.Domain)
        {
            ours[ContextCommand] = (ours[ContextCommand] & ~DoneMask) | (theirs[ContextCommand] & DoneMask);
        }
    }

    private bool ForgiveRecord(Step.Dma dma, bool hit, Span<ulong> ours, Span<ulong> theirs)
    {
        FaultRecord mine = new(ours[RecordLow], ours[RecordHigh]);
        FaultRecord other = new(theirs[RecordLow], theirs[RecordHigh]);
        if (mine == other || !mine.IsValid || mine.Source != Layout.Requester(dma.Device)) { return false; }
        ContextEntry context = ContextOf(ours, mine.Source);
        bool sameRequest = other.IsValid && mine.Page == other.Page && mine.Source == other.Source
            && mine.Access == other.Access;
        bool isRight = mine.Reason is VtdFaultReason.NoReadPermission or VtdFaultReason.NoWritePermission;
        bool forgiven = mine.Reason switch
        {
            // (g) A context entry whose tables lie nowhere: reason 7 by the specification, 3 in QEMU. (An entry that is
            // absent by now lives on in the context cache, and cannot be looked at.)
            VtdFaultReason.PagingEntryAccess
                when unforgiven != 'g' && sameRequest && other.Reason == VtdFaultReason.ContextInvalid =>
                !context.IsPresent || !_memory.TryRead64(context.SecondStageTable, out _),
            // (h) Beyond the width of a pass-through context: QEMU does not look at such a device's addresses at all.
            VtdFaultReason.AddressBeyondWidth => unforgiven != 'h' &&
                !other.IsValid && context.TranslationType == TranslationType.PassThrough,
            // (j) An entry that is malformed, or leads to one, and lacks the right besides: QEMU tells of the right.
            VtdFaultReason.PagingEntryAccess or VtdFaultReason.PagingEntryReserved =>
                unforgiven != 'j' && sameRequest && other.Reason == MissingRight(mine.Access)
                    && LacksRight(context, mine.Page, mine.Access),
            // (i) A cached page without the right: QEMU refuses and records nothing, or only what came after it in
            // the same transfer.
            _ when unforgiven != 'i' && isRight && hit =>
                !other.IsValid || (other.Source == mine.Source && other.Page > mine.Page),
            _ => false,
        };
        if (!forgiven) { return false; }
        foreach (int i in (ReadOnlySpan<int>)[RecordLow, RecordHigh, FaultStatus, FaultEvent]) { theirs[i] = ours[i]; }
        return true;
    }

    // (h), (i) When the record is taken already, what QEMU does not tell of shows as an overflow on our side only.
    private bool ForgiveOverflow(Step.Dma dma, bool hit, Span<ulong> ours, Span<ulong> theirs)
    {
        if ((ours[FaultStatus] ^ theirs[FaultStatus]) != VtdFaultStatus.Overflow
            || (ours[FaultStatus] & VtdFaultStatus.Overflow) == 0)
        {
            return false;
        }
        bool passes = ContextOf(ours, Layout.Requester(dma.Device)).TranslationType == TranslationType.PassThrough;
        if ((!hit || unforgiven == 'i') && (!passes || unforgiven == 'h')) { return false; }
        theirs[FaultStatus] = ours[FaultStatus];
        return true;
    }

    // (o) Reserved bits in a context entry that asks for silence (FPD): suppressed by the specification, not by QEMU.
    private bool ForgiveLoudContext(Step.Dma dma, Span<ulong> ours, Span<ulong> theirs)
    {
        if (unforgiven == 'o') { return false; }
        FaultRecord other = new(theirs[RecordLow], theirs[RecordHigh]);
        bool recorded = (ours[RecordHigh] & FaultRecord.ValidBit) == 0
            && other is { IsValid: true, Reason: VtdFaultReason.ContextReserved }
                && other.Source == Layout.Requester(dma.Device);
        bool overflowed = (ours[FaultStatus] ^ theirs[FaultStatus]) == VtdFaultStatus.Overflow
            && (theirs[FaultStatus] & VtdFaultStatus.Overflow) != 0;
        ContextEntry context = ContextOf(ours, Layout.Requester(dma.Device));
        if (!(recorded || overflowed) || !context.FaultsDisabled
            || !context.HasReservedBits(target.Unit.Options.HostAddressBits))
        {
            return false;
        }
        foreach (int i in (ReadOnlySpan<int>)[RecordLow, RecordHigh, FaultStatus, FaultEvent]) { theirs[i] = ours[i]; }
        return true;
    }

    private static VtdFaultReason MissingRight(DmaAccess access) =>
        access == DmaAccess.Read ? VtdFaultReason.NoReadPermission : VtdFaultReason.NoWritePermission;

    /// <summary>Whether an entry on the way to <paramref name="address"/>, malformed or not, lacks the right.</summary>
    private bool LacksRight(ContextEntry context, LogicalAddress address, DmaAccess access)
    {
        PhysicalAddress table = context.SecondStageTable;
        for (int level = context.TopLevel; level >= 0; level--)
        {
            PhysicalAddress at = table + ((address.Value >> (12 + 9 * level)) & 511) * 8;
            if (!_memory.TryRead64(at, out ulong word)) { return false; }
            VtdSecondStageEntry entry = new(word);
            if ((entry.Access & access) != access) { return true; }
            if (entry.IsLargeLeaf) { return false; }
            table = entry.Address;
        }
        return false;
    }

    private ContextEntry ContextOf(Span<ulong> registers, RequesterId requester)
    {
        _memory.TryRead64(RootEntry.AddressOf(new(registers[RootTable]), requester.Bus), out ulong root);
        PhysicalAddress at = ContextEntry.AddressOf(new RootEntry(root, 0).ContextTable, requester);
        _memory.TryRead64(at, out ulong low);
        _memory.TryRead64(at + 8, out ulong high);
        return new(low, high);
    }

    private static int Index(string name) => Array.FindIndex(Target.Registers, r => r.Name == name);
}
