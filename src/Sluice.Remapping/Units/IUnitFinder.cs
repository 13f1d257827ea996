namespace Sluice.Remapping.Units;

/// <summary>Finds units of one kind in what the firmware says of the machine.</summary>
internal interface IUnitFinder
{
    /// <summary>
    /// Whether the firmware describes units of this kind, in order or not, or may do so in what is damaged of its
    /// tables.
    /// </summary>
    /// <param name="platform">The machine. Nothing but its memory is read.</param>
    bool IsDescribed(IPlatform platform);

    /// <summary>What the firmware says of units of this kind.</summary>
    /// <param name="platform">The machine.</param>
    /// <param name="absence">Why there are none, in a line; empty when something is found.</param>
    /// <returns>Null when the firmware describes none.</returns>
    /// <exception cref="RemappingException">It describes some, or may, and what it says is of no use.</exception>
    FirmwareDescription? Find(IPlatform platform, out string absence);
}
