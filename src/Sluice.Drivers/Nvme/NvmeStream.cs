using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>
/// A namespace as a stream of bytes, at any offset and length. Reading in sequence reads ahead, writing in sequence
/// writes behind, with several requests in flight on buffers of the stream's own; seeking costs one small read.
/// </summary>
/// <remarks>
/// For one caller at a time. Synchronous calls poll and never wait for the thread pool. Write errors that come late are
/// thrown by a later write, flush or dispose. The length is fixed. Neither reading nor writing allocates once the
/// buffers exist.
/// </remarks>
public sealed partial class NvmeStream : Stream
{
    private readonly NvmeNamespace _target;
    private readonly NvmeController _controller;
    private readonly NvmeStreamOptions _options;
    private readonly long _blockMask;
    private readonly List<StreamBuffer> _buffers = [];
    private readonly Queue<StreamBuffer> _window = new();
    private int _maxBuffers;
    private long _position;
    private long _windowEnd;
    private int _run;
    private bool _isDisposed;

    internal NvmeStream(NvmeNamespace target, NvmeStreamOptions options)
    {
        options.Validate(target);
        (_target, _controller, _options) = (target, target.Controller, options);
        (_blockMask, _maxBuffers) = ((1L << target.BlockSizeLog2) - 1, options.Buffers);
        Length = options.Length ?? target.Length;
    }

    /// <inheritdoc/>
    public override long Length { get; }

    /// <inheritdoc/>
    public override long Position
    {
        get => _position;
        set
        {
            ArgumentOutOfRangeException.ThrowIfNegative(value);
            _position = value;
        }
    }

    /// <inheritdoc/>
    public override bool CanRead => !_isDisposed;

    /// <inheritdoc/>
    public override bool CanSeek => !_isDisposed;

    /// <inheritdoc/>
    public override bool CanWrite => !_isDisposed && !_target.IsReadOnly;

    /// <inheritdoc/>
    public override int Read(Span<byte> buffer)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (buffer.IsEmpty || _position >= Length) { return 0; }
        if (HasWrites) { Run(SettleWritesAsync(synchronously: true, CancellationToken.None)); }
        while (Prepare(buffer.Length) is { } waited) { Wait(waited); }
        return Copy(buffer);
    }

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count)
    {
        ValidateBufferArguments(buffer, offset, count);
        return Read(buffer.AsSpan(offset, count));
    }

    /// <inheritdoc/>
    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (cancellationToken.IsCancellationRequested) { return ValueTask.FromCanceled<int>(cancellationToken); }
        if (buffer.IsEmpty || _position >= Length) { return new(0); }
        return HasWrites || Prepare(buffer.Length) is not null
            ? ReadSlowly(buffer, cancellationToken)
            : new(Copy(buffer.Span));
    }

    /// <inheritdoc/>
    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken)
    {
        ValidateBufferArguments(buffer, offset, count);
        return ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
    }

    /// <summary>
    /// Forgets what was read ahead: the next read asks the device again. For namespaces that others change.
    /// </summary>
    public void DropReadAhead()
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        while (_window.TryDequeue(out StreamBuffer? dropped)) { Release(dropped); }
        _run = 0;
    }

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin)
    {
        long target = origin switch
        {
            SeekOrigin.Begin => offset,
            SeekOrigin.Current => checked(_position + offset),
            SeekOrigin.End => checked(Length + offset),
            _ => throw new ArgumentOutOfRangeException(nameof(origin)),
        };
        if (target < 0) { throw new IOException("a stream has no bytes before its first"); }
        return _position = target;
    }

    /// <summary>Not possible: a namespace has the size that it has.</summary>
    public override void SetLength(long value) => throw new NotSupportedException("the length of a namespace is fixed");

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    private async ValueTask<int> ReadSlowly(Memory<byte> buffer, CancellationToken cancellation)
    {
        if (HasWrites) { await SettleWritesAsync(synchronously: false, cancellation).ConfigureAwait(false); }
        while (Prepare(buffer.Length) is { } waited) { await waited.WaitAsync(cancellation).ConfigureAwait(false); }
        return Copy(buffer.Span);
    }

    /// <summary>
    /// Makes the window start at the position and keeps it as full as reading in sequence has earned: twice as deep
    /// with every buffer consumed. Gives what to wait for before trying again, or null when the bytes are there.
    /// </summary>
    private StreamBuffer? Prepare(int wanted)
    {
        while (_window.TryPeek(out StreamBuffer? first)
            && (_position < first.First || _position >= first.First + first.Length))
        {
            _window.Dequeue();
            Release(first);
            _run = _position == first.First + first.Length ? _run + 1 : 0;
        }
        if (_window.Count == 0)
        {
            _windowEnd = _position & ~_blockMask;
        }
        int depth = Math.Min(1 << Math.Min(_run, 6), _maxBuffers);
        long end = (Length + _blockMask) & ~_blockMask;
        while (_window.Count < depth && _windowEnd < end)
        {
            if (!TryTakeBuffer(out StreamBuffer? buffer))
            {
                if (_window.Count > 0) { break; }
                return buffer;
            }
            BeginRead(buffer!, wanted, end);
        }
        StreamBuffer head = _window.Peek();
        if (!head.TrySettle()) { return head; }
        if (head.Error is { } error)
        {
            while (_window.TryDequeue(out StreamBuffer? dropped)) { Release(dropped); }
            _run = 0;
            ExceptionDispatchInfo.Throw(error);
        }
        return null;
    }

    private void BeginRead(StreamBuffer buffer, int wanted, long end)
    {
        // The first read after a seek brings what is asked for, in whole pages; only a second one shows a sequence.
        bool isFirst = _run == 0 && _window.Count == 0;
        long size = isFirst ? (_position - _windowEnd + wanted + 4095) & ~4095L : _options.BufferBytes;
        size = Math.Min(Math.Min(size, _options.BufferBytes), end - _windowEnd);
        (buffer.First, buffer.Length, buffer.Purpose) = (_windowEnd, (int)size, StreamBuffer.Use.Window);
        buffer.Begin(_target.ReadAsync((ulong)_windowEnd >> _target.BlockSizeLog2, buffer.Memory, 0, (uint)size));
        _windowEnd += size;
        _window.Enqueue(buffer);
    }

    private int Copy(Span<byte> destination)
    {
        StreamBuffer head = _window.Peek();
        uint from = (uint)(_position - head.First);
        int count = (int)Math.Min(Math.Min(destination.Length, head.Length - from), Length - _position);
        head.Memory.CopyTo(from, destination[..count]);
        _position += count;
        return count;
    }

    private static void Release(StreamBuffer buffer) =>
        buffer.Purpose = buffer.TrySettle() ? StreamBuffer.Use.Idle : StreamBuffer.Use.Stale;

    /// <summary>Takes a buffer that nobody uses; else gives one to wait for.</summary>
    private bool TryTakeBuffer(out StreamBuffer? buffer)
    {
        StreamBuffer? busy = null;
        foreach (StreamBuffer candidate in _buffers)
        {
            if (candidate.Purpose == StreamBuffer.Use.Stale && candidate.TrySettle())
            {
                candidate.Purpose = StreamBuffer.Use.Idle;
            }
            if (candidate.Purpose == StreamBuffer.Use.Write && candidate.TrySettle()) { EndWrite(candidate); }
            if (candidate.Purpose == StreamBuffer.Use.Idle)
            {
                buffer = candidate;
                return true;
            }
            if (candidate.Purpose != StreamBuffer.Use.Window && (busy is null || candidate.First < busy.First))
            {
                busy = candidate;
            }
        }
        buffer = busy;
        if (_buffers.Count >= _maxBuffers) { return false; }
        try
        {
            buffer = new(Mdl.Allocate(_controller.Platform, (uint)_options.BufferBytes));
        }
        catch (DmaException) when (_buffers.Count > 0)
        {
            _maxBuffers = _buffers.Count; // the machine is small: fewer requests in flight
            return false;
        }
        _buffers.Add(buffer);
        return true;
    }

    private void Wait(StreamBuffer buffer)
    {
        while (!buffer.TrySettle())
        {
            _controller.Poll();
            if (buffer.TrySettle()) { return; }
            _controller.Platform.Clock.Relax();
        }
    }

    private static void Run(in ValueTask synchronous) => synchronous.GetAwaiter().GetResult();
}
