using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>From a requester to its context entry: root table, context table, and every check on the way.</summary>
/// <remarks>
/// VT-d specification 3.4.2 and 9.1 to 9.3. A present entry is accepted only as it stood in memory at one moment: its
/// 128 bits are one load, as silicon fetches them, so software may replace a present entry by one store of 16 bytes.
/// Where the memory cannot load that much at once, the word with the present bit is read before and after the other:
/// right as long as software clears the present bit, changes the rest, and sets the present bit, which is the only way
/// on such a processor. Two whole replacements between the two reads would fool that check, but a replacement must be
/// followed by an invalidation, and that waits for the DMA that is reading here.
/// </remarks>
internal sealed class ContextReader<TMemory>(VtdOptions options, TMemory memory)
    where TMemory : struct, IPhysicalMemory
{
    private const int Attempts = 4;
    private readonly VtdCapability _capability = options.Capability;

    /// <summary>Reads and checks the entry of one requester.</summary>
    internal CachedContext Read(RootPointer root, RequesterId requester)
    {
        if (!root.IsSet) { return Refused(VtdFaultReason.RootTableAccess); }
        if (root.IsWrongMode) { return Refused(VtdFaultReason.RootTableAddressInvalid); }
        PhysicalAddress at = RootEntry.AddressOf(root.Table, requester.Bus);
        if (!TryReadPair(at, out ulong low, out ulong high)) { return Refused(VtdFaultReason.RootTableAccess); }
        RootEntry rootEntry = new(low, high);
        if (!rootEntry.IsPresent) { return Refused(VtdFaultReason.RootNotPresent); }
        if (rootEntry.HasReservedBits(options.HostAddressBits)) { return Refused(VtdFaultReason.RootReserved); }

        at = ContextEntry.AddressOf(rootEntry.ContextTable, requester);
        if (!TryReadPair(at, out low, out high)) { return Refused(VtdFaultReason.ContextTableAccess); }
        ContextEntry entry = new(low, high);
        VtdFaultReason reason = Check(entry);
        return reason == VtdFaultReason.None
            ? CachedContext.For(entry)
            : CachedContext.Refused(reason, entry.FaultsDisabled);
    }

    private static CachedContext Refused(VtdFaultReason reason) => CachedContext.Refused(reason, faultsDisabled: false);

    private VtdFaultReason Check(in ContextEntry entry)
    {
        if (!entry.IsPresent) { return VtdFaultReason.ContextNotPresent; }
        if (entry.HasReservedBits(options.HostAddressBits) || entry.DomainId >> options.DomainIdBits != 0)
        {
            return VtdFaultReason.ContextReserved;
        }
        bool typeSupported = entry.TranslationType == TranslationType.Translated
            || (entry.TranslationType == TranslationType.PassThrough && options.PassThrough);
        bool widthSupported = _capability.SupportsTopLevel(entry.TopLevel);
        return typeSupported && widthSupported ? VtdFaultReason.None : VtdFaultReason.ContextInvalid;
    }

    private bool TryReadPair(PhysicalAddress at, out ulong low, out ulong high) =>
        memory.TryRead128(at, out low, out high) || TryReadSteadyPair(at, out low, out high);

    // An entry that will not hold still is being replaced: it counts as absent.
    private bool TryReadSteadyPair(PhysicalAddress at, out ulong low, out ulong high)
    {
        high = 0;
        for (int attempt = 0; memory.TryRead64(at, out low); attempt++)
        {
            bool there = memory.TryRead64(at + sizeof(ulong), out high) & memory.TryRead64(at, out ulong again);
            if (!there) { return false; }
            if (again == low) { return true; }
            if (attempt == Attempts)
            {
                low = high = 0;
                return true;
            }
        }
        return false;
    }
}
