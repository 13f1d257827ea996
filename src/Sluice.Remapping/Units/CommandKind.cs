namespace Sluice.Remapping.Units;

/// <summary>What a queued command drops, for counting.</summary>
internal enum CommandKind
{
    /// <summary>A run of pages of a domain.</summary>
    Pages,

    /// <summary>Everything of a domain.</summary>
    Domain,

    /// <summary>What the unit knows of one device.</summary>
    Device,

    /// <summary>Everything.</summary>
    All,
}
