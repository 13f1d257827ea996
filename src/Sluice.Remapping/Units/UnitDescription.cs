namespace Sluice.Remapping.Units;

/// <summary>One remapping unit as firmware describes it. Each kind of unit has its own.</summary>
internal abstract record UnitDescription
{
    /// <summary>Whether the unit serves a source that firmware names as its own.</summary>
    /// <param name="source">The source.</param>
    public abstract bool Names(SourceId source);

    /// <summary>Whether the unit serves a source when no other unit names it.</summary>
    /// <param name="source">The source.</param>
    public abstract bool TakesRest(SourceId source);

    /// <summary>
    /// Reads the unit's capabilities and prepares its tables; nothing about DMA changes yet.
    /// </summary>
    /// <param name="host">What the driver needs of the system.</param>
    /// <exception cref="RemappingException">
    /// Nothing is where its registers should be, the unit does not answer or lacks what its driver needs, or memory
    /// ran out. Nothing is kept.
    /// </exception>
    public abstract IUnitDriver CreateDriver(UnitHost host);

    /// <summary>The kind of unit and its place, in one line.</summary>
    public abstract override string ToString();
}
