namespace Sluice.Remapping.Units;

/// <summary>
/// A unit's own table of who may do DMA, in the unit's format, and what the unit has cached of it. One caller at a time,
/// but for <see cref="BlockAll"/>.
/// </summary>
/// <remarks>
/// The unit may read between any two stores: an entry is never seen as a mixture of old and new. Where a unit does not
/// confirm, it is given up (<see cref="UnitLife"/>) by the member that found out.
/// </remarks>
internal interface ISourceTable
{
    /// <summary>Makes sure that a source has an entry. An empty one changes nothing for it.</summary>
    /// <param name="source">The source.</param>
    /// <returns>False when no memory was left.</returns>
    bool TryPrepare(SourceId source);

    /// <summary>Fills in an entry that is absent, and of which the unit holds no copy.</summary>
    /// <param name="source">Prepared.</param>
    /// <param name="space">What it leads to.</param>
    /// <param name="silenced">Whether the source's faults leave no record.</param>
    void Publish(SourceId source, AddressSpace space, bool silenced);

    /// <summary>
    /// Replaces a present entry in one store. The unit may hold a copy of the old one until <see cref="Forget"/>.
    /// </summary>
    /// <param name="source">Prepared.</param>
    /// <param name="space">What it leads to.</param>
    /// <param name="silenced">Whether the source's faults leave no record.</param>
    /// <returns>False, and nothing changed, where nothing can store so much at once.</returns>
    bool TryReplace(SourceId source, AddressSpace space, bool silenced);

    /// <summary>
    /// Takes an entry away in one store. The unit may hold a copy of it until <see cref="Forget"/>.
    /// </summary>
    /// <param name="source">Prepared.</param>
    /// <param name="silenced">Whether the source's faults leave no record.</param>
    void Clear(SourceId source, bool silenced);

    /// <summary>
    /// Switches the reporting of a source's faults in one store, and nothing else of the entry, present or not. The
    /// unit may hold a copy of the old one until <see cref="Forget"/>.
    /// </summary>
    /// <param name="source">Prepared.</param>
    /// <param name="silenced">Whether its faults leave no record.</param>
    void Silence(SourceId source, bool silenced);

    /// <summary>
    /// Makes the unit drop its copy of an entry, and all that was cached through it; returns when nothing is in flight.
    /// </summary>
    /// <param name="source">Prepared.</param>
    /// <param name="domain">The domain that the entry led to; 0 for none.</param>
    void Forget(SourceId source, ushort domain);

    /// <summary>Makes sure that the unit sees an entry that was absent.</summary>
    /// <param name="source">Published.</param>
    /// <returns>False when the unit did not confirm: it is dead.</returns>
    bool Announce(SourceId source);

    /// <summary>
    /// Nobody may do DMA any more, as soon as the unit looks. Nothing is waited for. From any thread, also while another
    /// one is in here.
    /// </summary>
    void BlockAll();
}
