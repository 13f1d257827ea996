namespace Sluice.Remapping.Units;

/// <summary>
/// What a kind of unit says of its command queue: the format of commands, and its registers. Every member but
/// <see cref="Fence"/>, <see cref="Widen"/> and <see cref="KindOf"/> accesses registers, and throws what that throws.
/// </summary>
internal interface IQueueHardware
{
    /// <summary>
    /// The command that stores a number once every command before it is done, and what they dropped is in use nowhere.
    /// </summary>
    /// <param name="status">Where the 32-bit number goes.</param>
    /// <param name="number">The number.</param>
    QueueCommand Fence(PhysicalAddress status, uint number);

    /// <summary>A command that covers a refused one, and more: the widest form of the same.</summary>
    /// <param name="refused">What the unit refused; a fence stays as it is.</param>
    QueueCommand Widen(QueueCommand refused);

    /// <summary>What a command drops. Not asked of fences.</summary>
    /// <param name="command">The command.</param>
    CommandKind KindOf(QueueCommand command);

    /// <summary>Tells the unit where the queue ends.</summary>
    /// <param name="slot">The first slot behind the last command.</param>
    void WriteTail(int slot);

    /// <summary>Whether the unit has stopped at a command that it refuses.</summary>
    bool HasStopped();

    /// <summary>The slot of the command that it refuses.</summary>
    int ReadHead();

    /// <summary>Lets the unit go on, with what stands in the refused slot now.</summary>
    /// <param name="tail">The first slot behind the last command.</param>
    void Resume(int tail);
}
