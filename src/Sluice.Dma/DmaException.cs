namespace Sluice.Dma;

/// <summary>Why a DMA request could not be prepared.</summary>
public enum DmaFailure : byte
{
    /// <summary>It could: no failure.</summary>
    None,

    /// <summary>
    /// Logical space, map registers or table memory are short, and nothing outstanding would give any back.
    /// </summary>
    OutOfResources,

    /// <summary>The device cannot drive the addresses, and this back-end cannot move or remap the buffer.</summary>
    Unreachable,

    /// <summary>
    /// A page of the buffer is not a buffer frame: no device may reach it (kernel, tables, free or quarantined
    /// memory). Or it was disposed, or its chain shortened, while the request waited.
    /// </summary>
    NotABuffer,

    /// <summary>The device takes one element and the buffer does not join into one.</summary>
    TooFragmented,

    /// <summary>The remapping unit or the device's domain was declared dead: the device is blocked.</summary>
    Dead,

    /// <summary>The adapter was disposed.</summary>
    Disposed,

    /// <summary>The back-end cannot do it: fewer rights than both where no unit enforces them.</summary>
    NotSupported,

    /// <summary>A rule of the DDI was broken, and verification is asked to throw.</summary>
    RuleBroken,
}

/// <summary>A DMA request that will not succeed by waiting.</summary>
public class DmaException : Exception
{
    /// <summary>A failure and its one clear line.</summary>
    public DmaException(DmaFailure failure, string message) : base(message) => Failure = failure;

    /// <summary>Why.</summary>
    public DmaFailure Failure { get; }
}
