namespace Sluice.Machines;

/// <summary>How a DMA ended, as the device learns it.</summary>
public enum DmaStatus : byte
{
    /// <summary>All bytes were moved.</summary>
    Completed,

    /// <summary>
    /// A piece of it was refused: no bus mastering, no mapping or right, or no memory. Earlier pieces were moved; no
    /// byte of the refused page was. What a read was to fill from there on is all ones, as on a real bus.
    /// </summary>
    Refused,
}
