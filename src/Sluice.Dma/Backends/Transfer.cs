namespace Sluice.Dma;

/// <summary>A byte range of an MDL chain and the way its data goes: what a back-end is asked to make reachable.</summary>
internal readonly record struct Transfer(Mdl? Mdl, uint Offset, uint Length, DmaDirection Direction);

/// <summary>What a back-end keeps in a mapping between map and unmap.</summary>
internal struct BackendState
{
    /// <summary>Map registers held: pages of the transfer.</summary>
    internal int MapRegisters;
}
