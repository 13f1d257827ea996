namespace Sluice.Dma;

/// <summary>
/// What is known about one refused DMA when its record is read: what the rules of <see cref="FaultClassifier"/> look
/// at. One object, used for one fault after another, so that none allocates. Not safe from several threads.
/// </summary>
internal sealed class FaultScene(DmaSystem system)
{
    /// <summary>
    /// Records that one fault may have looked at one by one, of all adapters: where no address leads to them.
    /// </summary>
    internal const int MostLooks = 16_384;

    private const ulong PageSize = 1 << 12;
    private const ulong NearBytes = 1 << 20;

    // As far as anything below is looked for, and one page more for what begins inside a page.
    private const uint NearPages = (uint)(NearBytes >> 12) + 1;

    private readonly List<DmaAdapter> _suspects = [];
    private readonly List<DmaAdapter> _mates = [];
    private MappingPeek? _live;
    private MappingPeek? _ended;
    private MappingPeek? _against;
    private MappingPeek? _behind;
    private MappingPeek? _ahead;

    // The nearest live mapping, and the next one for when the report is about the nearest.
    private MappingPeek? _near;
    private MappingPeek? _next;
    private int _looksLeft;

    internal DmaSystem System => system;

    internal DmaFault Fault { get; private set; }

    /// <summary>The addresses the record may mean: a page, or a byte.</summary>
    internal LogicalRange Where { get; private set; }

    /// <summary>The adapters of all functions that carry the id.</summary>
    internal List<DmaAdapter> Suspects => _suspects;

    /// <summary>Those, and all that share a domain with them: what they map, the device reaches.</summary>
    internal List<DmaAdapter> Mates => _mates;

    /// <summary>The adapters of the system, as they were when the record was read.</summary>
    internal DmaAdapter[] Adapters { get; private set; } = [];

    /// <summary>Takes in a fault, and looks for what its device's domain has near the address.</summary>
    internal void Begin(in DmaFault fault)
    {
        (Fault, Where, Adapters, _looksLeft) = (fault, RangeOf(fault), system.AdapterArray, MostLooks);
        (_live, _ended, _against, _behind, _ahead, _near, _next) = (null, null, null, null, null, null, null);
        _suspects.Clear();
        _mates.Clear();
        system.FindAdaptersBehind(fault.Device, Adapters, _suspects);
        _mates.AddRange(_suspects);
        foreach (DmaAdapter adapter in Adapters)
        {
            if (!_suspects.Contains(adapter) && SharesDomain(adapter.Domain.Serial)) { _mates.Add(adapter); }
        }
        foreach (DmaAdapter mate in _mates) { Look(mate.Table); }
    }

    /// <summary>Lets go of everything, so that no disposed adapter is kept alive.</summary>
    internal void End()
    {
        _suspects.Clear();
        _mates.Clear();
        (Adapters, _live, _ended, _against, _behind, _ahead, _near, _next) =
            ([], null, null, null, null, null, null, null);
    }

    /// <summary>
    /// Asks to look at records that no address leads to: false when that would be more than <see cref="MostLooks"/>.
    /// </summary>
    internal bool TryLook(int records)
    {
        if (records > _looksLeft) { return false; }
        _looksLeft -= records;
        return true;
    }

    /// <summary>What is mapped there now.</summary>
    internal MappingRecord? Live => Capture(_live);

    /// <summary>
    /// The last that was mapped there, would have allowed the access, and is gone or going; also of an adapter that was
    /// disposed.
    /// </summary>
    internal MappingRecord? Ended => LastOf(_ended, allowed: true);

    /// <summary>As <see cref="Ended"/>, of those that would not have allowed the access.</summary>
    internal MappingRecord? Against => LastOf(_against, allowed: false);

    /// <summary>The mapping whose closed pages the address is in, or that ends just before it.</summary>
    internal MappingRecord? Behind => Capture(_behind);

    /// <summary>The mapping that begins on the next page.</summary>
    internal MappingRecord? Ahead => Capture(_ahead);

    /// <summary>The nearest live mapping other than <paramref name="except"/>.</summary>
    internal NearMapping? NearestBut(MappingRecord? except)
    {
        MappingPeek? best = _near;
        if (best is { } first && first.Number == except?.Number
            && first.Mapping.Adapter.Serial == except?.AdapterSerial)
        {
            best = _next;
        }
        return best is { } near && near.TryCapture(out MappingRecord record)
            ? new(record, DistanceOf(near, out bool above), above)
            : null;
    }

    /// <summary>Whether a mapping's right covers what the device tried.</summary>
    internal bool Allows(in MappingRecord record) => Allows(record.Direction);

    /// <summary>Whether a direction's right covers what the device tried.</summary>
    internal bool Allows(DmaDirection direction) => (direction.ToAccess() & Fault.Access) == Fault.Access;

    /// <summary>
    /// Whether a mapping may have ended so short a time before the DMA that it belongs to the request that the device
    /// worked on: judged by the earliest moment at which the DMA can have happened, so that a late reader changes
    /// nothing.
    /// </summary>
    internal bool EndedJustBefore(in MappingRecord record, long nanoseconds) =>
        record.State == MappingState.Closing || Earliest - record.UnmappedNanoseconds <= nanoseconds;

    /// <summary>
    /// Whether the DMA may have happened before a live mapping was made: its adapter gave something else back before
    /// that, and later than the earliest moment of the DMA. No record has the time at which it was made. Yes also where
    /// that takes more looks than there are left.
    /// </summary>
    internal bool MayBeOlderThan(in MappingRecord record, DmaAdapter owner)
    {
        foreach (Mapping mapping in owner.Table.All)
        {
            if (!TryLook(1)) { return true; }
            if (mapping.TryPeek(out MappingPeek peek) && !peek.IsLive && peek.ClosedAt < record.Number
                && peek.UnmappedAt >= Earliest)
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Whether what an adapter mapped once was in reach of the device.</summary>
    internal bool Reached(PciAddress device, long domain) =>
        device == Fault.Device || SharesDomain(domain) || system.CarriesSharedId(Fault.Device, device);

    /// <summary>The addresses that a fault's record may mean.</summary>
    internal static LogicalRange RangeOf(in DmaFault fault) =>
        new(fault.Address, new(fault.Address.Value | ((1UL << fault.GranularityLog2) - 1)));

    /// <summary>The byte of the buffer at the address, or the first of it in the page.</summary>
    internal static ulong? OffsetIn(in MappingRecord record, LogicalRange where)
    {
        if (!record.IsContiguous) { return null; }
        LogicalRange buffer = LogicalRange.FromLength(record.First, record.Length);
        if (!buffer.Overlaps(where)) { return null; }
        return where.First <= record.First ? 0 : where.First - record.First;
    }

    private long Earliest => Fault.SinceNanoseconds != 0 ? Fault.SinceNanoseconds : Fault.Nanoseconds;

    // An adapter that was disposed may have been the last there, where others share its domain.
    private MappingRecord? LastOf(in MappingPeek? peek, bool allowed)
    {
        MappingRecord? here = Capture(peek);
        bool isFormer = system.Former.TryFind(this, allowed, out MappingRecord former)
            && (here is not { } known || former.IsLaterThan(known));
        return isFormer ? former : here;
    }

    private bool SharesDomain(long serial)
    {
        foreach (DmaAdapter suspect in _suspects)
        {
            if (suspect.Domain.Serial == serial) { return true; }
        }
        return false;
    }

    private static MappingRecord? Capture(in MappingPeek? peek) =>
        peek is { } some && some.TryCapture(out MappingRecord record) ? record : null;

    // What is gone matters where it lay or next to it; what is live also further away.
    private void Look(MappingTable table)
    {
        ulong page = Where.First.Value >> 12;
        Span<int> near = stackalloc int[64];
        int from = 0;
        for (int count = near.Length; count == near.Length;)
        {
            count = table.Index.Find(ref from, page, margin: 1, goneToo: true, near);
            ReadOnlySpan<Mapping> all = table.All;
            foreach (int i in near[..count])
            {
                if (i < all.Length && all[i].TryPeek(out MappingPeek peek)) { Consider(peek); }
            }
        }
        from = 0;
        for (int count = near.Length; count == near.Length;)
        {
            count = table.Index.Find(ref from, page, NearPages, goneToo: false, near);
            ReadOnlySpan<Mapping> all = table.All;
            foreach (int i in near[..count])
            {
                if (i < all.Length && all[i].TryPeek(out MappingPeek peek)) { ConsiderNear(peek); }
            }
        }
    }

    private void Consider(in MappingPeek one)
    {
        LogicalRange reach = one.Footprint.Pages;
        if (reach.Overlaps(Where))
        {
            if (one.IsLive) { _live = one; }
            else
            {
                ref MappingPeek? last = ref Allows(one.Direction) ? ref _ended : ref _against;
                if (last is not { } other || one.IsLaterThan(other)) { last = one; }
            }
            return;
        }
        if (Where.First > reach.Last)
        {
            LogicalAddress next = reach.Last + 1;
            bool closed = Where.First <= one.Footprint.GuardLast || Where.First - next < PageSize;
            if (closed && IsBetter(one, _behind)) { _behind = one; }
        }
        else if (reach.First - Where.First <= PageSize && IsBetter(one, _ahead)) { _ahead = one; }
    }

    private void ConsiderNear(in MappingPeek one)
    {
        if (!one.IsLive || one.Footprint.Pages.Overlaps(Where)) { return; }
        ulong distance = DistanceOf(one, out _);
        if (distance > NearBytes) { return; }
        if (_near is not { } nearest || distance < DistanceOf(nearest, out _)) { (_near, _next) = (one, _near); }
        else if (_next is not { } second || distance < DistanceOf(second, out _)) { _next = one; }
    }

    // Live before gone, then the one that ended later. Two that are live never claim one page.
    private static bool IsBetter(in MappingPeek one, in MappingPeek? than) =>
        than is not { } other || (!other.IsLive && (one.IsLive || one.IsLaterThan(other)));

    private ulong DistanceOf(in MappingPeek one, out bool above)
    {
        above = one.First > Where.First;
        return above ? one.First - Where.First : Where.First - one.First - one.Length;
    }
}
