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

    /// <summary>Pages of a pool that it holds.</summary>
    internal virtual BounceHold Hold => default;
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

    /// <summary>Pages of a pool that stand in for pages a transfer does not fill; none where the device may see
    /// those.</summary>
    internal BounceHold StandIns;

    internal override BounceHold Hold => StandIns;

    /// <summary>What is mapped.</summary>
    internal ReservedMapping Mapping;

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
}

/// <summary>Bounce: pages that stand in for all of a transfer, whether it needs them or not.</summary>
internal sealed class BounceReservation(BounceHold hold) : BackendReservation
{
    internal override BounceHold Hold => hold;
}
