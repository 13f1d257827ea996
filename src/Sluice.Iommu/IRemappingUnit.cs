namespace Sluice.Iommu;

/// <summary>
/// One remapping unit as the devices behind it see it: every DMA and every interrupt message asks it first.
/// </summary>
/// <remarks>
/// A DMA is: <see cref="TranslationPort.Begin"/>, then one or more translations, each followed by its copy, then the
/// end of that scope; <see cref="MemoryPort{TMemory}"/> does all of it. The unit completes an invalidation only when
/// every port that was inside when it began has left, so what was translated by a dropped entry is over by then.
/// Refusals are results, never exceptions.
/// </remarks>
public interface IRemappingUnit
{
    /// <summary>What it is called in messages. Not empty.</summary>
    string Name { get; }

    /// <summary>
    /// Its registers, in the order that its specification names them. Each is 2^n pages long; a machine decides where
    /// it lies. Empty for a unit that is not programmed by registers.
    /// </summary>
    IReadOnlyList<RegisterWindow> Windows { get; }

    /// <summary>What it has done. Any thread.</summary>
    UnitCounters Counters { get; }

    /// <summary>A new port for one agent (a device's thread). A port is never used by two threads at once.</summary>
    /// <param name="name">The agent, for messages; empty for a number.</param>
    /// <returns>The port; it stays connected as long as the unit lives.</returns>
    TranslationPort Connect(string name = "");

    /// <summary>Translates the first byte of one request, while <paramref name="port"/> is in flight.</summary>
    /// <param name="port">The agent's port.</param>
    /// <param name="request">
    /// Who asks for what. Split transfers at the end of each run. What the unit does not know (a PASID, a kind of
    /// request) it refuses.
    /// </param>
    /// <param name="run">The memory from that byte on; empty when refused. It may have no memory behind it.</param>
    /// <returns>False when refused: the unit has recorded it, or counted why it did not.</returns>
    /// <exception cref="ArgumentException">
    /// The source is none that can be below such a unit: a stream below a unit for PCI. Who wired them together is at
    /// fault, not the device.
    /// </exception>
    bool TryTranslate(TranslationPort port, in DmaRequest request, out PhysicalRun run);

    /// <summary>
    /// Back to the state out of reset, caches empty; ports stay connected and counters go on. The DMA in flight is
    /// drained first, under the tables that it began with; what begins later passes as the unit says out of reset.
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// The caller is inside a DMA itself, or one did not end. Nothing was reset then.
    /// </exception>
    void Reset();

    /// <summary>
    /// Its whole state: registers, queues with their heads and tails, fault records that wait, events that are pending.
    /// Not in it: the caches, which any unit may forget at any time, the counters, and memory. DMA may go on meanwhile.
    /// </summary>
    /// <returns>Bytes for <see cref="TryRestore"/> of a unit of the same kind, built with the same options.</returns>
    byte[] Save();

    /// <summary>
    /// Takes over a state that was saved, with caches empty; ports stay connected and counters go on. Sends no
    /// interrupt. No DMA may be in flight.
    /// </summary>
    /// <param name="state">What <see cref="Save"/> gave.</param>
    /// <returns>False, and nothing is changed, when it is not the state of such a unit.</returns>
    bool TryRestore(ReadOnlySpan<byte> state);

    /// <summary>Passes one interrupt message: a 4-byte write inside the interrupt window.</summary>
    /// <param name="port">The agent's port, entered.</param>
    /// <param name="source">The sender.</param>
    /// <param name="request">What the device wrote.</param>
    /// <param name="delivered">What reaches the processors.</param>
    /// <returns>False when refused: recorded or counted as for a DMA.</returns>
    bool TryRemapInterrupt(
        TranslationPort port, SourceId source, MsiMessage request, out MsiMessage delivered);
}
