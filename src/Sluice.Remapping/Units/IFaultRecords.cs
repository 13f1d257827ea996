namespace Sluice.Remapping.Units;

/// <summary>
/// Where a kind of unit keeps its fault records, and how they are read. One thread at a time; members access registers,
/// and throw what that throws.
/// </summary>
internal interface IFaultRecords
{
    /// <summary>
    /// One turn over what the unit has recorded: every record that waits is read, freed and handed to
    /// <paramref name="reader"/>, and so is a loss that the unit tells of. Bounded by the size of the unit's log.
    /// </summary>
    /// <param name="reader">Takes the faults.</param>
    /// <returns>False when nothing waited.</returns>
    bool ReadTurn(FaultReader reader);

    /// <summary>Whether the registers can be read.</summary>
    bool Answers();
}
