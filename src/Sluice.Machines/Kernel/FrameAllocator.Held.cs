namespace Sluice.Machines;

// Frames that were freed while a device may still reach them.
public sealed partial class FrameAllocator
{
    private const byte Young = (byte)FrameKind.AwaitsFlush;
    private const byte Old = (byte)FrameKind.AwaitsFlush | Mark;
    private volatile IFlushGate? _gate;
    private int _held;

    /// <inheritdoc/>
    public int HeldFrames => Volatile.Read(ref _held);

    // Inside the lock. What a buffer becomes that its owner gave back.
    private byte NoOwner => _gate is { IsPending: true } ? Young : (byte)FrameKind.Free;

    /// <inheritdoc/>
    public void HoldFreed(IFlushGate? gate)
    {
        lock (_lock)
        {
            if (gate is not null && _gate is not null && gate != _gate)
            {
                throw new InvalidOperationException("another system holds these frames until its flushes");
            }
            _gate = gate;
        }
        for (int i = 0; gate is null && i < 2; i++) { FreeHeld(); }
    }

    /// <inheritdoc/>
    public bool FreeHeld()
    {
        lock (_lock)
        {
            int kept = 0;
            for (int block = 0; block < _heldInBlock.Length && kept < _held; block++)
            {
                if (_heldInBlock[block] != 0) { kept += FreeHeldIn(block); }
            }
            return kept != 0;
        }
    }

    // Those that are old become free, the others old. How many of the latter there are.
    private int FreeHeldIn(int block)
    {
        int kept = 0;
        ReadOnlySpan<byte> kinds = Block(block);
        int next;
        for (int at = 0; (next = kinds[at..].IndexOfAny(Young, Old)) >= 0; at++)
        {
            at += next;
            bool isOld = kinds[at] == Old;
            SetKind((block << BlockLog2) + at, 1, isOld ? (byte)FrameKind.Free : Old);
            if (!isOld) { kept++; }
        }
        return kept;
    }

    // Memory has run out, and some of it only awaits a flush.
    private bool TryFlush()
    {
        if (_gate is not { } gate || HeldFrames == 0) { return false; }
        gate.Flush();
        return true;
    }
}
