using System.Threading.Tasks.Sources;
using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>
/// A part of a request that one command does: so many bytes of its buffer (blocks, when it has none) from a block on.
/// </summary>
internal readonly record struct NvmePiece(ulong Block, uint Offset, uint Length);

/// <summary>
/// One call of a user, from submission to the end of the await. Two own it: the hardware side, until every command of
/// it is over, and the waiter, until the result is taken. A cancelled waiter leaves early; the buffer stays mapped and
/// the object in use until the hardware side is done too, and only then does the pool get it back.
/// </summary>
internal sealed class NvmeRequest(NvmeQueuePair queue) : IValueTaskSource
{
    private static readonly Action<object?, CancellationToken> s_cancel =
        static (request, token) => ((NvmeRequest)request!).Answer(new OperationCanceledException(token));

    // Continuations go to the thread pool: they may wait for other requests, which the completing thread must then
    // serve.
    private ManualResetValueTaskSourceCore<bool> _core = new() { RunContinuationsAsynchronously = true };
    private CancellationTokenRegistration _registration;
    private Exception? _error;
    private ulong _nextBlock;
    private ulong _left;
    private uint _nextOffset;
    private PrpRuns _runs;
    private int _open;
    private int _owners;
    private int _isAnswered;

    /// <summary>The next one in the list that it is in: the queue's waiting requests, or the pool.</summary>
    public NvmeRequest? Next { get; set; }

    public byte Opcode { get; private set; }

    public uint Namespace { get; private set; }

    public int BlockSizeLog2 { get; private set; }

    /// <summary>The buffer; null for commands without data.</summary>
    public Mdl? Buffer { get; private set; }

    /// <summary>
    /// For one use: <paramref name="length"/> counts bytes of <paramref name="buffer"/>, or blocks when there is none.
    /// </summary>
    public ValueTask Begin(
        byte opcode, NvmeNamespace target, ulong block, Mdl? buffer, uint offset, ulong length,
        CancellationToken cancellation)
    {
        (Opcode, Namespace, BlockSizeLog2, Buffer) = (opcode, target.Id, target.BlockSizeLog2, buffer);
        (_nextBlock, _nextOffset, _left) = (block, offset, length);
        (_open, _owners, _isAnswered, _error) = (1, 2, 0, null);
        _runs = buffer?.Next is null ? default : new(buffer);
        if (cancellation.CanBeCanceled) { _registration = cancellation.UnsafeRegister(s_cancel, this); }
        return new(this, _core.Version);
    }

    /// <summary>
    /// Takes the next part, under the queue's lock. False when the rest is not worth doing any more: after an error, or
    /// when nobody waits. <paramref name="isLast"/> says that no part is left to take.
    /// </summary>
    public bool TryTake(uint maxLength, out NvmePiece piece, out bool isLast)
    {
        piece = default;
        isLast = true;
        if (Volatile.Read(ref _error) is not null || Volatile.Read(ref _isAnswered) != 0) { return false; }
        uint length = _runs.Limit(_nextOffset, (uint)Math.Min(_left, maxLength));
        piece = new(_nextBlock, _nextOffset, length);
        _left -= length;
        _nextOffset += length;
        _nextBlock += Buffer is null ? length : length >> BlockSizeLog2;
        isLast = _left == 0;
        if (!isLast) { Interlocked.Increment(ref _open); } // the last part takes over the submitter's own count
        return true;
    }

    /// <summary>A part is over, or the submitter's count is given up.</summary>
    public void Finish(Exception? error)
    {
        if (error is not null) { Interlocked.CompareExchange(ref _error, error, null); }
        if (Interlocked.Decrement(ref _open) != 0) { return; }
        Answer(_error);
        Disown();
    }

    /// <inheritdoc/>
    public void GetResult(short token)
    {
        // Throws when this result was taken before: that await must not disturb the present user.
        _ = _core.GetStatus(token);
        try
        {
            _core.GetResult(token);
        }
        finally
        {
            // Waits for a cancellation that is just running, so that it cannot hit the next user of this object.
            _registration.Dispose();
            Disown();
        }
    }

    /// <inheritdoc/>
    public ValueTaskSourceStatus GetStatus(short token) => _core.GetStatus(token);

    /// <inheritdoc/>
    public void OnCompleted(
        Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _core.OnCompleted(continuation, state, token, flags);

    private void Answer(Exception? error)
    {
        if (Interlocked.Exchange(ref _isAnswered, 1) != 0) { return; }
        if (error is null) { _core.SetResult(true); }
        else { _core.SetException(error); }
    }

    private void Disown()
    {
        if (Interlocked.Decrement(ref _owners) != 0) { return; }
        _core.Reset();
        (Buffer, _registration, _runs) = (null, default, default);
        queue.Return(this);
    }
}
