namespace Sluice.Machines.Nvme;

/// <summary>A ring of completions that the controller fills and the driver empties.</summary>
/// <remarks>The head is stored by the thread that rings the doorbell; all else belongs to the device thread.</remarks>
internal sealed class CompletionQueue(ushort id, LogicalAddress first, uint size, int vector, bool interrupts)
{
    private readonly Queue<CompletionEntry> _waiting = new(8);
    private uint _head;
    private uint _tail;
    private bool _phase = true;

    public ushort Id => id;

    public int Vector => vector;

    public bool Interrupts => interrupts;

    /// <summary>Submission queues that complete here.</summary>
    public int Users { get; set; }

    /// <summary>Completions that found the ring full.</summary>
    public Queue<CompletionEntry> Waiting => _waiting;

    /// <summary>Entries that may still be posted; one always stays empty, so that full and empty differ.</summary>
    public uint Free => size - 1 - Distance(Volatile.Read(ref _head), _tail);

    /// <summary>Whether completions wait for the driver. From any thread.</summary>
    public bool HasEntries => Volatile.Read(ref _head) != Volatile.Read(ref _tail);

    /// <summary>
    /// Takes the next slot: its address, and the phase tag to store there. The ring must not be full.
    /// </summary>
    public LogicalAddress Take(out bool phase)
    {
        LogicalAddress slot = first + (_tail << CompletionEntry.BytesLog2);
        phase = _phase;
        uint next = _tail + 1;
        if (next == size) { (next, _phase) = (0, !_phase); }
        // Before the entry is visible, so that a driver which has seen the entry never finds its head ahead of our
        // tail.
        Volatile.Write(ref _tail, next);
        return slot;
    }

    /// <summary>
    /// A doorbell write; false when the value is outside the ring or frees entries that were never posted.
    /// </summary>
    public bool TrySetHead(uint value)
    {
        if (value >= size) { return false; }
        uint head = Volatile.Read(ref _head);
        if (Distance(head, value) > Distance(head, Volatile.Read(ref _tail))) { return false; }
        Volatile.Write(ref _head, value);
        return true;
    }

    private uint Distance(uint from, uint to) => to >= from ? to - from : to + size - from;
}
