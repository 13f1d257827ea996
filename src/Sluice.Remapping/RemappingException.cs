namespace Sluice.Remapping;

/// <summary>
/// Remapping could not be set up, or a device not be attached. The message is one clear line; DMA is blocked, not open.
/// </summary>
public sealed class RemappingException : Exception
{
    /// <summary>With one line that names the unit or device and the reason.</summary>
    public RemappingException(string message)
        : base(message)
    {
    }

    /// <summary>With the reason below it.</summary>
    public RemappingException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
