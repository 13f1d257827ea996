using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>Who may do DMA through a VT-d unit: its context tables, and what it has cached of them.</summary>
/// <param name="contexts">The tables.</param>
/// <param name="capability">Whether the unit caches what is absent.</param>
/// <param name="writes">What the unit keeps back.</param>
/// <param name="invalidations">Drops what the unit has cached.</param>
internal sealed class VtdSourceTable(
    ContextTables contexts, VtdCapability capability, WriteBuffer writes, InvalidationSubmitter invalidations)
    : ISourceTable
{
    /// <inheritdoc/>
    public bool TryPrepare(SourceId source) => contexts.TryPrepare(source.Requester);

    /// <inheritdoc/>
    public void Publish(SourceId source, AddressSpace space, bool silenced) =>
        contexts.Publish(source.Requester, EntryFor(space), silenced);

    /// <inheritdoc/>
    public bool TryReplace(SourceId source, AddressSpace space, bool silenced) =>
        contexts.TryReplace(source.Requester, EntryFor(space), silenced);

    /// <inheritdoc/>
    public void Clear(SourceId source, bool silenced) => contexts.Clear(source.Requester, silenced);

    /// <inheritdoc/>
    public void Silence(SourceId source, bool silenced) => contexts.Silence(source.Requester, silenced);

    /// <inheritdoc/>
    public void Forget(SourceId source, ushort domain)
    {
        writes.TryFlush();
        invalidations.InvalidateDevice(domain, source.Requester);
    }

    /// <inheritdoc/>
    public bool Announce(SourceId source) =>
        // Absence may be cached under domain 0; a new root entry is covered by going global.
        (!capability.CachingMode || invalidations.InvalidateAll()) && writes.TryFlush();

    /// <inheritdoc/>
    public void BlockAll() => contexts.BlockAll();

    private static ContextEntry EntryFor(AddressSpace space) => ContextEntry.For(
        TranslationType.Translated, space.Tables.Root.Table, space.Tables.Root.TopLevel, space.Id);
}
