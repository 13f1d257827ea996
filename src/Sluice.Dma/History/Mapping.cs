using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>The life of a mapping record. Kept in the low bits of its life word, below the mapping's number.</summary>
internal enum MappingPhase : byte
{
    /// <summary>Given back: history, until the record is used again.</summary>
    Gone,

    /// <summary>Being written by its next user.</summary>
    Writing,

    /// <summary>The device may reach it.</summary>
    Live,

    /// <summary>Being given back.</summary>
    Closing,

    /// <summary>Never given back: quarantined.</summary>
    Leaked,
}

/// <summary>Where a mapping lies and whether the device may reach it, read in one piece.</summary>
/// <param name="Mapping">The record.</param>
/// <param name="Number">Whose life it was in.</param>
/// <param name="IsLive">Whether the device may reach it.</param>
/// <param name="First">The buffer's first byte.</param>
/// <param name="Length">Bytes in the buffer.</param>
/// <param name="Footprint">What it takes up on the bus.</param>
/// <param name="ClosedAt">Its end in the adapter's sequence; the highest number while it is closing.</param>
/// <param name="UnmappedAt">The time of its end, where it is gone.</param>
/// <param name="Direction">Which way the data goes.</param>
internal readonly record struct MappingPeek(
    Mapping Mapping, long Number, bool IsLive, LogicalAddress First, ulong Length, Footprint Footprint, long ClosedAt,
    long UnmappedAt, DmaDirection Direction)
{
    /// <summary>A copy of the whole record; false when it has been used again since.</summary>
    internal bool TryCapture(out MappingRecord record) => Mapping.TryCapture(out record) && record.Number == Number;

    /// <summary>Whether it ended after another, as <see cref="MappingRecord.IsLaterThan"/>.</summary>
    internal bool IsLaterThan(in MappingPeek other) => Mapping.Adapter == other.Mapping.Adapter
        ? ClosedAt != other.ClosedAt ? ClosedAt > other.ClosedAt : Number > other.Number
        : ClosedAt == long.MaxValue || (other.ClosedAt != long.MaxValue && UnmappedAt > other.UnmappedAt);
}

/// <summary>What the driver said when it asked for a mapping: the part of a record that a report quotes.</summary>
internal readonly record struct MappingOrigin(uint Tag, string Member, string File);

/// <summary>
/// One transfer from get to put, and afterwards its history until the record is used again: the lease table and the
/// mapping history are the same pre-allocated objects, so history costs one time stamp and no copy.
/// </summary>
/// <remarks>
/// The owner of a record (who took it from <see cref="MappingTable"/>, then who holds the lease) writes it; anyone may
/// read it through <see cref="TryCapture"/>, which is a sequence lock over the life word.
/// <para>
/// The adapter's mapping numbers are also its sequence of events: a mapping lives from its number to the last number
/// that had been given out when it was closed. Both are read while its owner holds the addresses, so of two mappings
/// that lay at one address the later one has the higher end, however late somebody looks.
/// </para>
/// </remarks>
/// <param name="adapter">Whose it is.</param>
/// <param name="words">The chunk of the table's <see cref="ReachIndex"/> that it is in.</param>
/// <param name="word">Its own word there.</param>
internal sealed class Mapping(DmaAdapter adapter, ulong[] words, int word)
{
    private const int PhaseBits = 3;
    private const long PhaseMask = (1 << PhaseBits) - 1;

    // number << 3 | phase. A lease is good while this word says its number and Live.
    private long _life;

    /// <summary>Whose table it belongs to.</summary>
    internal DmaAdapter Adapter => adapter;

    // The link of the table's list of free records; owned by the table.
    internal Mapping? NextFree;

    // What the back-end needs to undo the transfer.
    internal Transfer Transfer;
    internal BackendState Backend;

    // What verification remembers; null while it is off. Made with the record, so that no request allocates it.
    internal readonly VerifiedTransfer? Verified = adapter.Verifier is null ? null : new();

    // The memory, when it is a common buffer.
    internal CommonMemory Common;

    // The list, in one of two places: nearly every list under remapping has one element.
    internal ScatterGatherElement Only;
    internal ScatterGatherElement[]? Many;
    internal int Count;

    // What history keeps.
    private uint _tag;
    private string _mapMember = "";
    private string _mapFile = "";
    private LogicalAddress _first;
    private ulong _length;
    private Footprint _footprint;
    private DmaDirection _direction;
    private bool _contiguous;
    private bool _common;
    private string _unmapMember = "";
    private string _unmapFile = "";
    private long _unmappedAt;
    private long _closedAt;
    private bool _unmappedExactly;

    internal long Number => Volatile.Read(ref _life) >> PhaseBits;

    internal MappingPhase Phase => (MappingPhase)(Volatile.Read(ref _life) & PhaseMask);

    internal bool IsLive(long number) => Volatile.Read(ref _life) == Life(number, MappingPhase.Live);

    internal bool IsLeaked(long number) => Volatile.Read(ref _life) == Life(number, MappingPhase.Leaked);

    /// <summary>
    /// The record becomes mapping <paramref name="number"/>, which the device may reach. Only by its owner.
    /// </summary>
    /// <param name="number">The number, never used before by this adapter.</param>
    /// <param name="footprint">What it takes up on the bus.</param>
    /// <param name="origin">Who asked.</param>
    /// <param name="common">Whether it is a common buffer.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal void Publish(long number, in Footprint footprint, in MappingOrigin origin, bool common)
    {
        Volatile.Write(ref _life, Life(number, MappingPhase.Writing));
        _tag = origin.Tag;
        Keep(ref _mapMember, origin.Member);
        Keep(ref _mapFile, origin.File);
        _first = Only.Address;
        _length = common ? Common.Length : Transfer.Length;
        _footprint = footprint;
        words[word] = ReachIndex.Pack(footprint);
        _direction = Transfer.Direction;
        _contiguous = Count == 1;
        _common = common;
        Volatile.Write(ref _life, Life(number, MappingPhase.Live));
    }

    /// <summary>Live to closing, exactly once per number whoever else tries.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal bool TryClose(long number)
    {
        long live = Life(number, MappingPhase.Live);
        if (Interlocked.CompareExchange(ref _life, Life(number, MappingPhase.Closing), live) != live) { return false; }
        _closedAt = adapter.LastNumber;
        return true;
    }

    /// <summary>Closing to gone. Only by who closed it.</summary>
    internal void Retire(string member, string file, long nanoseconds, bool exact)
    {
        Debug.Assert(Phase == MappingPhase.Closing);
        long number = Number;
        Volatile.Write(ref _life, Life(number, MappingPhase.Writing));
        Keep(ref _unmapMember, member);
        Keep(ref _unmapFile, file);
        (_unmappedAt, _unmappedExactly) = (nanoseconds, exact);
        words[word] = ReachIndex.Gone(words[word]);
        Volatile.Write(ref _life, Life(number, MappingPhase.Gone));
    }

    /// <summary>Closing to leaked. Only by who closed it.</summary>
    internal void Quarantine() => Volatile.Write(ref _life, Life(Number, MappingPhase.Leaked));

    /// <summary>Leaked to gone, as <see cref="Retire"/>. Only by who released the leak.</summary>
    internal void End(long closedAt, string member, string file, long nanoseconds)
    {
        Debug.Assert(Phase == MappingPhase.Leaked);
        Volatile.Write(ref _life, Life(Number, MappingPhase.Closing));
        _closedAt = closedAt;
        Retire(member, file, nanoseconds, exact: true);
    }

    internal ScatterGatherElement ElementAt(int index)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)index, (uint)Count, nameof(index));
        return Many is null ? Only : Many[index];
    }

    /// <summary>
    /// Whether the buffer of this live mapping lies in the frame at <paramref name="page"/>, and which byte of it
    /// comes first there.
    /// </summary>
    internal bool TryLocate(PhysicalAddress page, out MappingRecord record, out ulong offset)
    {
        offset = 0;
        if (!TryCapture(out record) || record.State is not (MappingState.Live or MappingState.Leaked)) { return false; }
        long life = Volatile.Read(ref _life);
        (Transfer transfer, CommonMemory common) = (Transfer, Common);
        Volatile.ReadBarrier();
        // Half of one transfer and half of the next is no range of any buffer.
        if (life >> PhaseBits != record.Number || Volatile.Read(ref _life) != life) { return false; }
        bool found = record.IsCommonBuffer ? Locate(common, page, out offset) : Locate(transfer, page, out offset);
        return found && record.Number == Number && TryCapture(out record);
    }

    private static bool Locate(in CommonMemory memory, PhysicalAddress page, out ulong offset)
    {
        int index = memory.Pages is null ? -1 : Array.IndexOf(memory.Pages, page);
        offset = (ulong)index << 12;
        return index >= 0;
    }

    private static bool Locate(in Transfer transfer, PhysicalAddress page, out ulong offset)
    {
        offset = 0;
        if (transfer.Mdl is null) { return false; }
        MdlCursor cursor = new(transfer.Mdl, transfer.Offset, transfer.Length);
        while (cursor.NextPiece(out Mdl part, out uint at, out uint length))
        {
            ulong start = (ulong)part.ByteOffset + at;
            int first = (int)(start >> 12);
            int count = (int)((start + length - 1) >> 12) - first + 1;
            int index = part.Pages.Slice(first, count).IndexOf(page);
            if (index >= 0)
            {
                offset += index == 0 ? 0 : ((ulong)(first + index) << 12) - start;
                return true;
            }
            offset += length;
        }
        return false;
    }

    /// <summary>What is mapped for a device at this moment, a common buffer excepted; false for none.</summary>
    internal bool TryReadTransfer(out long number, out Transfer transfer)
    {
        transfer = default;
        long life = Volatile.Read(ref _life);
        number = life >> PhaseBits;
        if ((MappingPhase)(life & PhaseMask) is MappingPhase.Gone or MappingPhase.Writing) { return false; }
        // The driver's buffer, also where pages of the verifier stand in for it.
        transfer = Verified is { Guard: not null } verified ? verified.Transfer : Transfer;
        Volatile.ReadBarrier();
        return Volatile.Read(ref _life) == life && transfer is { Mdl: not null, Length: > 0 };
    }

    /// <summary>A consistent copy; false when the record is unused or being written.</summary>
    internal bool TryCapture(out MappingRecord record)
    {
        long life = Volatile.Read(ref _life);
        var phase = (MappingPhase)(life & PhaseMask);
        record = default;
        if (life == 0 || phase == MappingPhase.Writing) { return false; }
        bool open = phase is MappingPhase.Live or MappingPhase.Leaked;
        record = new()
        {
            Number = life >> PhaseBits,
            Owner = adapter.Driver,
            Device = adapter.Device,
            AdapterSerial = adapter.Serial,
            First = _first,
            Length = _length,
            Reach = _footprint.Pages,
            GuardLast = _footprint.GuardLast,
            Direction = _direction,
            IsContiguous = _contiguous,
            IsCommonBuffer = _common,
            State = phase switch
            {
                MappingPhase.Live => MappingState.Live,
                MappingPhase.Closing => MappingState.Closing,
                MappingPhase.Leaked => MappingState.Leaked,
                _ => MappingState.Unmapped,
            },
            Tag = _tag,
            MapSite = new(_mapMember, _mapFile),
            UnmapSite = open ? default : new(_unmapMember, _unmapFile),
            UnmappedNanoseconds = phase == MappingPhase.Gone ? _unmappedAt : 0,
            UnmappedExactly = phase == MappingPhase.Gone && _unmappedExactly,
            ClosedAt = phase switch { MappingPhase.Gone => _closedAt, MappingPhase.Closing => long.MaxValue, _ => 0 },
        };
        Volatile.ReadBarrier();
        return Volatile.Read(ref _life) == life;
    }

    /// <summary>
    /// The little that tells whether a record matters for a fault, without the copy; false as
    /// <see cref="TryCapture"/>.
    /// </summary>
    internal bool TryPeek(out MappingPeek peek)
    {
        long life = Volatile.Read(ref _life);
        var phase = (MappingPhase)(life & PhaseMask);
        peek = default;
        if (life == 0 || phase == MappingPhase.Writing) { return false; }
        peek = new(
            this, life >> PhaseBits, phase is MappingPhase.Live or MappingPhase.Leaked, _first, _length, _footprint,
            phase == MappingPhase.Closing ? long.MaxValue : _closedAt, _unmappedAt, _direction);
        Volatile.ReadBarrier();
        return Volatile.Read(ref _life) == life;
    }

    // Nearly always the same caller as in the record's last life: a comparison is cheaper than storing a reference.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Keep(ref string kept, string said)
    {
        if (!ReferenceEquals(kept, said)) { kept = said; }
    }

    private static long Life(long number, MappingPhase phase) => (number << PhaseBits) | (long)phase;
}
