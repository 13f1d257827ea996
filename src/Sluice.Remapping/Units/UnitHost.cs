namespace Sluice.Remapping.Units;

/// <summary>What the driver of a unit needs of the system that it belongs to.</summary>
/// <param name="Platform">The machine.</param>
/// <param name="TableMemory">
/// The machine's memory, through which the tables of who may do DMA are written: a test can look between two stores.
/// </param>
/// <param name="Options">Sizes and patience.</param>
/// <param name="Faults">Takes refused DMAs.</param>
/// <param name="PhysicalAddressBits">Physical address bits of the machine.</param>
/// <param name="OnDeath">
/// Called once when the unit no longer answers, by the thread that finds out, perhaps inside its locks.
/// </param>
internal sealed record UnitHost(
    IPlatform Platform, IPhysicalMemory TableMemory, RemappingOptions Options, IFaultSink Faults,
    int PhysicalAddressBits, Action<IUnitDriver> OnDeath);
