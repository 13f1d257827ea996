using System.Numerics;
using Sluice.Remapping;

namespace Sluice.Dma;

/// <summary>
/// What a back-end set aside so that one transfer at a time cannot fail or allocate. Identity needs nothing; others
/// derive from this. One thread at a time uses it: who holds the transfer.
/// </summary>
internal class BackendReservation
{
    /// <summary>Whose it is; set by the adapter.</summary>
    internal DmaReservation? Owner;

    /// <summary>Pages of a pool that it was made with; not written once others see it.</summary>
    internal BounceHold StandIns;

    // What a leaked transfer took with it.
    private bool _lost;

    /// <summary>Pages of a pool that it holds.</summary>
    internal BounceHold Hold => Volatile.Read(ref _lost) ? default : StandIns;

    /// <summary>Adds the logical addresses that it keeps.</summary>
    internal virtual void AddAddresses(List<LogicalRange> kept)
    {
    }

    /// <summary>It holds none any more: they are whoever's calls this, once.</summary>
    internal BounceHold TakeHold()
    {
        BounceHold hold = Hold;
        Volatile.Write(ref _lost, true);
        return hold;
    }
}

/// <summary>
/// Remapping: two runs of logical addresses with all their tables, used in turn, so that a device that is late by one
/// transfer meets a closed page. One run serves both turns where addresses are short.
/// </summary>
internal sealed class RemappingReservation(DomainReservation next, DomainReservation? other, int pages)
    : BackendReservation
{
    private DomainReservation? _other = other;

    /// <summary>Where the next transfer goes.</summary>
    internal DomainReservation Next { get; private set; } = next;

    /// <summary>The run of the other turn.</summary>
    internal DomainReservation? Other => _other;

    /// <summary>The pages that are mapped, in a row.</summary>
    internal PhysicalAddress[] Scratch { get; } = new PhysicalAddress[pages];

    /// <summary>What is mapped.</summary>
    internal ReservedMapping Mapping;

    internal override void AddAddresses(List<LogicalRange> kept)
    {
        kept.Add(new(Next.First, Next.GuardLast));
        if (_other is { } other) { kept.Add(new(other.First, other.GuardLast)); }
    }

    internal void TakeTurns()
    {
        if (_other is { } other) { (Next, _other) = (other, Next); }
    }
}

/// <summary>Shadow: a slot per right, rented for good.</summary>
internal sealed class ShadowReservation(ShadowSlot read, ShadowSlot write, ShadowSlot both) : BackendReservation
{
    internal ShadowSlot this[DmaAccess access] => access switch
    {
        DmaAccess.Read => read,
        DmaAccess.Write => write,
        _ => both,
    };

    internal int Pages => 3 * (int)BitOperations.RoundUpToPowerOf2((uint)both.PageCount);

    internal override void AddAddresses(List<LogicalRange> kept) =>
        kept.AddRange([read.Taken, write.Taken, both.Taken]);
}

/// <summary>Bounce: pages that stand in for all of a transfer, whether it needs them or not.</summary>
internal sealed class BounceReservation : BackendReservation
{
    internal BounceReservation(in BounceHold hold) => StandIns = hold;
}
