namespace Sluice.Remapping.Units;

/// <summary>A command in a unit's queue, in the unit's own format: every kind of unit has them of 16 bytes.</summary>
/// <param name="Low">Bytes 0 to 7.</param>
/// <param name="High">Bytes 8 to 15.</param>
internal readonly record struct QueueCommand(ulong Low, ulong High)
{
    /// <summary>Its bytes, as a power of two.</summary>
    public const int SizeLog2 = 4;
}
