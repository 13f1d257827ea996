namespace Sluice.Machines.Qemu;

/// <summary>
/// QEMU is not there, did not start, or refused an option. The message is one clear line, with what QEMU itself said.
/// </summary>
public sealed class QemuException : IOException
{
    /// <summary>An error in one line.</summary>
    public QemuException(string message)
        : base(message)
    {
    }

    /// <summary>An error in one line, and what led to it.</summary>
    public QemuException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
