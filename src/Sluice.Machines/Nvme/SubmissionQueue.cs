namespace Sluice.Machines.Nvme;

/// <summary>A ring of commands that the driver fills and the controller empties.</summary>
/// <remarks>The tail is stored by the thread that rings the doorbell; all else belongs to the device thread.</remarks>
internal sealed class SubmissionQueue(ushort id, LogicalAddress first, uint size, CompletionQueue completions)
{
    private uint _head;
    private uint _tail;

    public ushort Id => id;

    public CompletionQueue Completions => completions;

    public uint Head => Volatile.Read(ref _head);

    /// <summary>Commands waiting from the head up to the tail, without going around the ring's end.</summary>
    public uint ContiguousWaiting
    {
        get
        {
            uint tail = Volatile.Read(ref _tail);
            return tail >= _head ? tail - _head : size - _head;
        }
    }

    public LogicalAddress HeadAddress => first + (_head << SubmissionEntry.BytesLog2);

    public void Advance() => Volatile.Write(ref _head, _head + 1 == size ? 0 : _head + 1);

    /// <summary>
    /// A doorbell write; false when the value is outside the ring or announces more commands than it holds.
    /// </summary>
    public bool TrySetTail(uint value)
    {
        if (value >= size) { return false; }
        uint tail = Volatile.Read(ref _tail);
        uint added = Distance(tail, value);
        uint waiting = Distance(Head, tail);
        if (added > size - 1 - waiting) { return false; }
        Volatile.Write(ref _tail, value);
        return true;
    }

    private uint Distance(uint from, uint to) => to >= from ? to - from : to + size - from;
}
