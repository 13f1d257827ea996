namespace Sluice.Machines;

/// <summary>A machine that cannot be built or driven as asked: one clear line for the person who asked.</summary>
public sealed class MachineException : Exception
{
    /// <summary>With the line.</summary>
    public MachineException(string message)
        : base(message)
    {
    }

    /// <summary>With the line and what lies behind it.</summary>
    public MachineException(string message, Exception inner)
        : base(message, inner)
    {
    }
}
