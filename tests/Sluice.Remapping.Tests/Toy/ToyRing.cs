using Sluice.Remapping.Units;

namespace Sluice.Remapping.Tests.Toy;

/// <summary>
/// A unit's command processor that is not VT-d's: it is told slots, and not bytes, and runs inside the tail write.
/// </summary>
internal sealed class ToyRing(PhysicalMemory memory, PhysicalAddress ring, int slots)
{
    private int _head;

    /// <summary>What was executed, in order, without fences.</summary>
    public List<ulong> Executed { get; } = [];

    /// <summary>Commands that it refuses.</summary>
    public HashSet<ulong> Refused { get; } = [];

    /// <summary>How often it was told of a tail.</summary>
    public int Tails { get; private set; }

    /// <summary>Whether it does nothing any more.</summary>
    public bool IsDeaf { get; set; }

    public bool HasStopped { get; private set; }

    public int Head => _head;

    public void Run(int tail)
    {
        Assert.InRange(tail, 0, slots - 1);
        Tails++;
        HasStopped = false;
        while (!IsDeaf && _head != tail)
        {
            PhysicalAddress at = ring + (ulong)_head * 16;
            Assert.True(memory.TryRead64(at, out ulong low));
            Assert.True(memory.TryRead64(at + 8, out ulong high));
            if (Refused.Contains(low))
            {
                HasStopped = true;
                return;
            }
            if (low >> 32 == ToyCommands.FenceCode) { memory.TryWrite32(new(high), (uint)low); }
            else { Executed.Add(low); }
            _head = (_head + 1) % slots;
        }
    }
}

/// <summary>Its commands: a number in the low word, which says what it drops; 0 drops everything.</summary>
internal readonly struct ToyCommands(ToyRing ring) : IQueueHardware
{
    public const ulong FenceCode = 0xF;

    public QueueCommand Fence(PhysicalAddress status, uint number) => new(FenceCode << 32 | number, status.Value);

    public QueueCommand Widen(QueueCommand refused) => new(0, 0);

    public CommandKind KindOf(QueueCommand command) => command.Low == 0 ? CommandKind.All : CommandKind.Pages;

    public void WriteTail(int slot) => ring.Run(slot);

    public bool HasStopped() => ring.HasStopped;

    public int ReadHead() => ring.Head;

    public void Resume(int tail) => ring.Run(tail);
}
