namespace Sluice;

/// <summary>
/// A PCI function that cannot do what is asked of it, or that has no room: one clear line for the person who asked.
/// </summary>
public sealed class PciException : Exception
{
    /// <summary>With the line.</summary>
    /// <param name="message">Says which function and what it lacks.</param>
    public PciException(string message)
        : base(message)
    {
    }
}
