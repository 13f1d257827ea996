namespace Sluice.Remapping.Units;

/// <summary>
/// One remapping unit as the operating-system side uses it: all that domains and the system know of it. Safe from any
/// thread, but for <see cref="Start"/> and <see cref="Stop"/>, which come once each.
/// </summary>
/// <remarks>
/// A unit that does not confirm something in time, or whose registers throw, is dead from then on
/// (<see cref="IsDead"/>): it blocks every device as far as it can, says so once to the system
/// (<see cref="UnitHost.OnDeath"/>), and every later call returns false or throws.
/// </remarks>
internal interface IUnitDriver
{
    /// <summary>What the firmware says of it.</summary>
    UnitDescription Description { get; }

    /// <summary>What it can do.</summary>
    UnitTraits Traits { get; }

    /// <summary>Whether it no longer answers; every device behind it is blocked as far as it can be.</summary>
    bool IsDead { get; }

    /// <summary>What it did so far.</summary>
    UnitStatistics Statistics { get; }

    /// <summary>
    /// From whatever firmware left to "nobody may do DMA", without a moment in which more is allowed than before.
    /// </summary>
    /// <exception cref="RemappingException">A step was not confirmed in time.</exception>
    void Start();

    /// <summary>
    /// Ends fault reporting; translation stays on, over tables in which nobody is attached. A unit that was never
    /// started is not touched, and its memory is free again.
    /// </summary>
    /// <exception cref="TimeoutException">
    /// A fault interrupt does not come to an end. Everything else is done all the same.
    /// </exception>
    void Stop();

    /// <summary>The timer: looks after the unit's faults.</summary>
    void OnTimer();

    /// <summary>Makes empty tables for a domain.</summary>
    /// <param name="shape">A shape that it can walk (<see cref="TableShape.IsWalkedBy"/>).</param>
    /// <returns>Null when no memory is left.</returns>
    IDomainTables? TryCreateTables(TableShape shape);

    /// <summary>Lets a source reach an address space, through "blocked" if it reached something else before.</summary>
    /// <param name="source">A source that it serves.</param>
    /// <param name="space">Tables that it can walk, and their tag.</param>
    /// <exception cref="RemappingException">
    /// No memory for the unit's own tables, the source is in quarantine, or the unit is dead.
    /// </exception>
    void Attach(SourceId source, AddressSpace space);

    /// <summary>
    /// Lets an attached source reach another address space instead: each of its requests goes by the old or by the new
    /// one, and by the new one alone when this returns.
    /// </summary>
    /// <param name="source">A source that it serves.</param>
    /// <param name="space">Tables that it can walk, and their tag.</param>
    /// <returns>False when the source had to be blocked in between.</returns>
    /// <exception cref="RemappingException">
    /// The source is in quarantine, and as blocked as before; or the unit is dead, and blocks as far as it can.
    /// </exception>
    bool Switch(SourceId source, AddressSpace space);

    /// <summary>
    /// Leaves a source blocked. On a dead unit (<see cref="IsDead"/> afterwards) the tables say so, and nothing more is
    /// known.
    /// </summary>
    /// <param name="source">A source that it serves.</param>
    void Detach(SourceId source);

    /// <summary>
    /// Drops a range of an address space, or more, from the unit's caches: when this returns nothing goes by what was
    /// cached, or is in flight through it. Allocates nothing.
    /// </summary>
    /// <param name="domain">The tag of the address space.</param>
    /// <param name="range">Whole pages.</param>
    /// <param name="onlyLeaves">No table pointer changed.</param>
    /// <returns>False when the unit did not confirm: it is dead.</returns>
    bool Invalidate(ushort domain, LogicalRange range, bool onlyLeaves);

    /// <summary>As <see cref="Invalidate"/>, for everything of an address space.</summary>
    /// <param name="domain">The tag of the address space.</param>
    /// <returns>False when the unit did not confirm: it is dead.</returns>
    bool InvalidateDomain(ushort domain);

    /// <summary>
    /// Makes sure that the unit sees what was newly mapped. Only where the traits ask for it.
    /// </summary>
    /// <param name="domain">The tag of the address space.</param>
    /// <param name="range">What was mapped: whole pages.</param>
    /// <returns>False when the unit did not confirm: it is dead.</returns>
    bool Announce(ushort domain, LogicalRange range);

    /// <summary>
    /// Reads what the unit has recorded by now, on this thread. Bounded; false when not all of it can be known.
    /// </summary>
    bool TryDrainFaults();

    /// <summary>The sources that were blocked because they raised too many faults, in order.</summary>
    SourceId[] Quarantined { get; }

    /// <summary>
    /// Ends a quarantine; the source stays blocked until it is attached again. False: it was in none.
    /// </summary>
    /// <param name="source">A source that it serves.</param>
    bool EndQuarantine(SourceId source);

    /// <summary>Refuses a source in quarantine. One that is in none now may be soon.</summary>
    /// <param name="source">A source that it serves.</param>
    /// <exception cref="RemappingException">It is in quarantine.</exception>
    void ThrowIfQuarantined(SourceId source);
}
