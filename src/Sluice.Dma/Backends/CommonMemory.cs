namespace Sluice.Dma;

/// <summary>The memory of a common buffer.</summary>
/// <param name="First">Its logical address, page aligned.</param>
/// <param name="Pages">Its frames, in order.</param>
/// <param name="RunLog2">How the frames were taken: 12 one by one, more as one physical run of that size.</param>
internal readonly record struct CommonMemory(LogicalAddress First, PhysicalAddress[] Pages, int RunLog2);
