namespace Sluice.Machines.Qtest;

/// <summary>
/// The other side of a qtest connection refused a command, died or hung. The message is one clear line.
/// </summary>
public sealed class QtestException : IOException
{
    /// <summary>An error in one line.</summary>
    public QtestException(string message)
        : base(message)
    {
    }

    /// <summary>An error in one line, and what led to it.</summary>
    public QtestException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
