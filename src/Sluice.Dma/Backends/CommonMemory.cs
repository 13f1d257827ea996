namespace Sluice.Dma;

/// <summary>The memory of a common buffer.</summary>
/// <param name="First">Its logical address, page aligned.</param>
/// <param name="Pages">Its frames, in order.</param>
/// <param name="RunLog2">How the frames were taken: 12 one by one, more as one physical run of that size.</param>
/// <param name="Footprint">What it takes up on the bus.</param>
/// <param name="SlotLog2">Remapping: the size of its logical slot.</param>
internal readonly record struct CommonMemory(
    LogicalAddress First, PhysicalAddress[] Pages, int RunLog2, Footprint Footprint, byte SlotLog2 = 0);
