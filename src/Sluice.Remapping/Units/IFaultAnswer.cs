namespace Sluice.Remapping.Units;

/// <summary>What can be done about a source that raises too many faults.</summary>
internal interface IFaultAnswer
{
    /// <summary>Switches a source's fault reporting.</summary>
    /// <param name="source">The source; it need not be attached.</param>
    /// <param name="silenced">Off, or on again.</param>
    /// <returns>False: not now, ask again.</returns>
    bool TrySilence(SourceId source, bool silenced);

    /// <summary>Blocks a source for good.</summary>
    /// <param name="source">The source; it need not be attached.</param>
    /// <returns>False: not now, ask again.</returns>
    bool TryQuarantine(SourceId source);
}
