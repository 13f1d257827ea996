using System.Runtime.CompilerServices;
using Sluice.Formats.PageTables;
using Sluice.Formats.Vtd;

namespace Sluice.Iommu;

/// <content>The whole road of a translation: root, context, IOTLB, tables, rights, faults.</content>
public sealed partial class VtdUnit
{
    private const int PageLog2 = 12;
    private const int MaximumAddressBits = 57;

    // The longest run handed out. The interrupt window begins at a multiple of it and is shorter, so a run that begins
    // outside the window never reaches into it, on the logical or on the physical side.
    private const int RunLog2 = 21;
    private const int ReasonShift = 4;

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool TranslateFully(
        TranslationPort port, RequesterId requester, LogicalAddress address, DmaAccess access, out PhysicalRun run)
    {
        run = default;
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
        CachedContext context = FindContext(root, requester, epoch, out bool walked);
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
            || Refuse(port, requester, address, access, reason, context.FaultsDisabled);
    }

    private CachedContext FindContext(RootPointer root, RequesterId requester, long epoch, out bool walked)
    {
        ulong key = CachedContext.KeyOf(requester);
        walked = !_contexts.TryFind(key, out ulong word);
        if (!walked) { return new(word); }
        CachedContext context = _contextReader.Read(root, requester);
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
            if (pages.Count != 0 && pages.TryFind(Iotlb.KeyOf(context, address, level), out ulong page))
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
        PageTableRoot tables = new(context.Table, context.TopLevel, Options.HostAddressBits, Options.LeafLevels)
        {
            SnoopControl = false,
        };
        Translation found = PageTable<VtdSecondStage>.Walk(_memory, in tables, address);
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
                _caches.Fill(_pages4K, Iotlb.KeyOf(context, address, level: 0), (ulong)failed << ReasonShift, epoch);
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
                _caches.Fill(_caches.Pages(level), Iotlb.KeyOf(context, address, level), page, epoch);
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

    private bool Refuse(
        TranslationPort port, RequesterId requester, LogicalAddress address, DmaAccess access, VtdFaultReason reason,
        bool faultsDisabled)
    {
        port.CountRefusal();
        _faults.Record(requester, address, reason, isRead: (access & DmaAccess.Read) != 0, faultsDisabled);
        return false;
    }
}
