namespace Sluice.Iommu;

/// <summary>
/// One remapping unit as the devices behind it see it: every DMA and every interrupt message asks it first.
/// </summary>
/// <remarks>
/// A DMA is: <see cref="TranslationPort.Enter"/>, then one or more translations, each followed by its copy, then
/// <see cref="TranslationPort.Exit"/>. The unit completes an invalidation only when every port that was inside when it
/// began has left, so what was translated by a dropped entry is over by then. Refusals are results, never exceptions.
/// </remarks>
public interface IRemappingUnit
{
    /// <summary>A new port for one agent (a device's thread). A port is never used by two threads at once.</summary>
    TranslationPort Connect(string name = "");

    /// <summary>
    /// Translates one address for <paramref name="requester"/>, between Enter and Exit of <paramref name="port"/>.
    /// </summary>
    /// <param name="port">The agent's port.</param>
    /// <param name="requester">The id on the bus transaction.</param>
    /// <param name="address">The byte asked for. Split transfers at the end of each run.</param>
    /// <param name="access">Read, write, or both for an atomic operation; not none.</param>
    /// <param name="run">The memory from that byte on; empty when refused. It may have no memory behind it.</param>
    /// <returns>False when refused: the unit has recorded it, or counted why it did not.</returns>
    bool TryTranslate(
        TranslationPort port, RequesterId requester, LogicalAddress address, DmaAccess access, out PhysicalRun run);

    /// <summary>Passes one interrupt message: a 4-byte write inside the interrupt window.</summary>
    /// <param name="port">The agent's port, entered.</param>
    /// <param name="requester">The id on the bus transaction.</param>
    /// <param name="request">What the device wrote.</param>
    /// <param name="delivered">What reaches the processors.</param>
    /// <returns>False when refused: recorded or counted as for a DMA.</returns>
    bool TryRemapInterrupt(
        TranslationPort port, RequesterId requester, MsiMessage request, out MsiMessage delivered);
}
