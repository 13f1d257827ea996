namespace Sluice.Dma;

/// <summary>
/// Whether the rules of the DDI are checked at every call, and what becomes of a call that breaks one.
/// </summary>
public enum VerificationMode : byte
{
    /// <summary>Nothing is checked beyond what every call needs anyway.</summary>
    Off,

    /// <summary>
    /// A broken rule is counted and raised as <see cref="DmaSystem.Violated"/>; nothing else changes. Without a
    /// subscriber it is written to <see cref="System.Diagnostics.Trace"/>.
    /// </summary>
    Log,

    /// <summary>As <see cref="Log"/>, and the call throws a <see cref="DmaViolationException"/>.</summary>
    Throw,

    /// <summary>As <see cref="Log"/>, and the debugger breaks, where one is attached.</summary>
    Break,
}

/// <summary>What an adapter hands out and must get back before it is released.</summary>
public enum DmaResource : byte
{
    /// <summary>Memory that processor and device use together.</summary>
    CommonBuffer,

    /// <summary>The exclusive use of the adapter or of a controller's channel.</summary>
    Channel,

    /// <summary>Pages of reachability, taken apart from a list.</summary>
    MapRegisters,

    /// <summary>A scatter/gather list: a transfer that is mapped.</summary>
    ScatterGatherList,

    /// <summary>What a driver names one transfer by, from its set-up to its end.</summary>
    TransferContext,
}
