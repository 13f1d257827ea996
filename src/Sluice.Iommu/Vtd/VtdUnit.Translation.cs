using System.Runtime.CompilerServices;
using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <content>The whole road of a translation: root, context, IOTLB, tables, rights, faults.</content>
public sealed partial class VtdUnit
{
    internal const int PageLog2 = 12;
    private const int MaximumAddressBits = 57;

    // The longest run handed out. The interrupt window begins at a multiple of it and is shorter, so a run that begins
    // outside the window never reaches into it, on the logical or on the physical side.
    private const int RunLog2 = 21;
    private const int ReasonShift = 4;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TranslateFully(
        TranslationPort port, SourceId source, LogicalAddress address, DmaAccess access, out PhysicalRun run)
    {
        run = default;
        if (!source.IsPci) { throw NotPci(source); }
        // The epoch before all that a fill rests on, the root table too; both loads acquire. After a root read first
        // another may be set and everything invalidated before the epoch is read: what is then walked from the old root
        // would count as new, and stay.
        long epoch = _caches.Epoch;
        RootPointer root = Root;
        if (!root.IsEnabled)
        {
            run = RunOf(new(address.Value), RunLog2);
            return true;
        }
        CachedContext context = FindContext(root, source, epoch, out bool walked);
        VtdFaultReason reason = context.IsRefused ? context.Reason
            : address.Value >> context.AddressBits != 0 ? VtdFaultReason.AddressBeyondWidth
            : InterruptRemapping.Window.Contains(address) ? VtdFaultReason.OutputInInterruptWindow
            : VtdFaultReason.None;
        if (reason == VtdFaultReason.None)
        {
            reason = context.IsPassThrough
                ? PassThrough(address, out run)
                : FindPage(context, address, access, epoch, ref walked, out run);
        }
        if (walked) { port.CountMiss(); }
        else { port.CountHit(); }
        return reason == VtdFaultReason.None
            || Refuse(port, new(source, address, access), reason, context.FaultsDisabled);
    }

    // Requests that legacy mode does not know. A context can only say why they are refused: none allows them.
    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TranslateOther(TranslationPort port, DmaRequest request, out PhysicalRun run)
    {
        run = default;
        bool untranslated = request.Kind == DmaRequestKind.Untranslated;
        long epoch = _caches.Epoch;
        RootPointer root = Root;
        if (untranslated && (request.Pasid is null || !root.IsEnabled))
        {
            return TranslateFully(port, request.Source, request.Address, request.Access, out run);
        }
        if (!request.Source.IsPci) { throw NotPci(request.Source); }
        if (!root.IsEnabled) { return RefuseUnrecorded(port); }
        if (request.Pasid is not null && !root.IsWrongMode)
        {
            return Refuse(port, request, VtdFaultReason.PasidInLegacyMode, faultsDisabled: false);
        }
        CachedContext context = FindContext(root, request.Source, epoch, out bool walked);
        if (walked) { port.CountMiss(); }
        else { port.CountHit(); }
        VtdFaultReason reason = context.IsRefused ? context.Reason : VtdFaultReason.RequestBlocked;
        return Refuse(port, request, reason, context.FaultsDisabled);
    }

    private static ArgumentException NotPci(SourceId source) => new($"a VT-d unit serves PCI functions, not {source}");

    private CachedContext FindContext(RootPointer root, SourceId source, long epoch, out bool walked)
    {
        ulong key = CachedContext.KeyOf(source);
        walked = !_contexts.TryFind(key, out ulong word);
        if (!walked) { return new(word); }
        CachedContext context = _tables.ReadContext(root, source.Requester);
        if (!context.IsRefused || Options.CachingMode) { _caches.Fill(_contexts, key, context.Word, epoch); }
        return context;
    }

    private VtdFaultReason FindPage(
        in CachedContext context, LogicalAddress address, DmaAccess access, long epoch, ref bool walked,
        out PhysicalRun run)
    {
        for (int level = 0; level <= 2; level++)
        {
            SetAssociativeCache pages = _caches.Pages(level);
            if (pages.Count != 0 && pages.TryFind(KeyOf(context, address, level), out ulong page))
            {
                return Grant(page, level, address, access, out run);
            }
        }
        walked = true;
        return Walk(context, address, access, epoch, out run);
    }

    private VtdFaultReason Walk(
        in CachedContext context, LogicalAddress address, DmaAccess access, long epoch, out PhysicalRun run)
    {
        Translation found = _tables.Walk(context, address);
        if (found.Status != WalkStatus.Mapped)
        {
            run = default;
            VtdFaultReason failed = found.Status switch
            {
                WalkStatus.ReservedBits => VtdFaultReason.PagingEntryReserved,
                WalkStatus.BadPointer => VtdFaultReason.PagingEntryAccess,
                WalkStatus.OutOfRange => VtdFaultReason.AddressBeyondWidth,
                _ => VtdFaultReason.None,
            };
            if (Options.CachingMode)
            {
                _caches.Fill(_pages4K, KeyOf(context, address, level: 0), (ulong)failed << ReasonShift, epoch);
            }
            return failed == VtdFaultReason.None ? MissingRight(access) : failed;
        }
        int level = (found.PageSizeLog2 - PageLog2) / 9;
        PhysicalAddress first = found.Address.AlignDown(found.PageSizeLog2);
        ulong page = first.Value | (ulong)found.Access;
        if (!PhysicalRange.FromLength(first, 1UL << found.PageSizeLog2).Overlaps(Window))
        {
            // A refused access puts nothing in the cache: a device must not be able to push out others' pages by
            // failing.
            if ((found.Access & access) == access || Options.CachingMode)
            {
                _caches.Fill(_caches.Pages(level), KeyOf(context, address, level), page, epoch);
            }
        }
        else if (Window.Contains(found.Address))
        {
            // Pages that overlap the window are walked each time, so that a cached page never needs this check.
            run = default;
            return VtdFaultReason.OutputInInterruptWindow;
        }
        return Grant(page, level, address, access, out run);
    }

    private static ulong KeyOf(in CachedContext context, LogicalAddress address, int level) =>
        TranslationCache.KeyOf(context.Tag, address, PageLog2 + 9 * level);

    private static PhysicalRange Window =>
        new(new(InterruptRemapping.Window.First.Value), new(InterruptRemapping.Window.Last.Value));

    private static VtdFaultReason Grant(
        ulong page, int level, LogicalAddress address, DmaAccess access, out PhysicalRun run)
    {
        run = default;
        DmaAccess missing = access & ~(DmaAccess)(page & (ulong)DmaAccess.ReadWrite);
        if (missing != DmaAccess.None)
        {
            // A cached page without the right refuses at once. Software that adds a right to a present page must
            // invalidate.
            var kept = (VtdFaultReason)(byte)(page >> ReasonShift);
            return kept == VtdFaultReason.None ? MissingRight(missing) : kept;
        }
        int sizeLog2 = PageLog2 + 9 * level;
        run = RunOf(new((page & ~0xFFFUL) | address.OffsetIn(sizeLog2)), Math.Min(sizeLog2, RunLog2));
        return VtdFaultReason.None;
    }

    private static VtdFaultReason PassThrough(LogicalAddress address, out PhysicalRun run)
    {
        run = RunOf(new(address.Value), RunLog2);
        return VtdFaultReason.None;
    }

    private static PhysicalRun RunOf(PhysicalAddress first, int sizeLog2) =>
        new(first, (1UL << sizeLog2) - first.OffsetIn(sizeLog2));

    private static VtdFaultReason MissingRight(DmaAccess missing) =>
        (missing & DmaAccess.Read) != 0 ? VtdFaultReason.NoReadPermission : VtdFaultReason.NoWritePermission;

    private bool Refuse(TranslationPort port, in DmaRequest request, VtdFaultReason reason, bool faultsDisabled)
    {
        port.CountRefusal();
        _faults.Record(request, reason, faultsDisabled);
        return false;
    }

    // A unit that is off answers "unsupported request" to what is not plain DMA, and records nothing.
    private bool RefuseUnrecorded(TranslationPort port)
    {
        port.CountRefusal();
        _faults.Suppress();
        return false;
    }
}
