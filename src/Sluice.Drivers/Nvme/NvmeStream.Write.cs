using System.Runtime.ExceptionServices;
using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

// Writing: bytes gather in one buffer, which goes out when it is full or when something else comes.
public sealed partial class NvmeStream
{
    private StreamBuffer? _filling;
    private StreamBuffer? _scratch;
    private long _fillFirst;
    private long _fillEnd;
    private int _writes;
    private Exception? _writeError;

    private bool HasWrites => _filling is not null || _writes > 0;

    /// <inheritdoc/>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        CheckWrite(buffer.Length);
        while (!buffer.IsEmpty)
        {
            if (!CanFill) { Run(BeginFillAsync(synchronously: true, CancellationToken.None)); }
            buffer = buffer[Fill(buffer)..];
        }
    }

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count)
    {
        ValidateBufferArguments(buffer, offset, count);
        Write(buffer.AsSpan(offset, count));
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(
        ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        CheckWrite(buffer.Length);
        while (!buffer.IsEmpty)
        {
            if (!CanFill) { await BeginFillAsync(synchronously: false, cancellationToken).ConfigureAwait(false); }
            buffer = buffer[Fill(buffer.Span)..];
        }
    }

    /// <inheritdoc/>
    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken)
    {
        ValidateBufferArguments(buffer, offset, count);
        return WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();
    }

    /// <summary>Writes what is gathered, waits for it, and has the controller make it stable.</summary>
    public override void Flush()
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (_target.IsReadOnly) { return; }
        Run(SettleWritesAsync(synchronously: true, CancellationToken.None));
        _target.Flush();
    }

    /// <inheritdoc/>
    public override async Task FlushAsync(CancellationToken cancellationToken)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (_target.IsReadOnly) { return; }
        await SettleWritesAsync(synchronously: false, cancellationToken).ConfigureAwait(false);
        await _target.FlushAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <summary>
    /// Writes what is gathered and gives the buffers back; their memory is freed when the controller is done with it.
    /// </summary>
    protected override void Dispose(bool disposing)
    {
        if (!disposing || _isDisposed) { return; }
        try
        {
            Run(SettleWritesAsync(synchronously: true, CancellationToken.None));
        }
        finally
        {
            _isDisposed = true;
            foreach (StreamBuffer buffer in _buffers) { buffer.Dispose(); }
            _scratch?.Dispose();
            base.Dispose(disposing);
        }
    }

    private bool CanFill =>
        _filling is not null && _position == _fillEnd && _fillEnd < _filling.First + _options.BufferBytes;

    private void CheckWrite(int count)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (_target.IsReadOnly) { throw new NotSupportedException("the namespace is write protected"); }
        if (count > Length - _position)
        {
            throw new IOException($"{count} bytes at {_position} pass the end of a disk of {Length} bytes");
        }
        ThrowWriteError();
    }

    private int Fill(ReadOnlySpan<byte> source)
    {
        int room = (int)(_filling!.First + _options.BufferBytes - _fillEnd);
        int count = Math.Min(room, source.Length);
        _filling.Memory.CopyFrom((uint)(_fillEnd - _filling.First), source[..count]);
        _fillEnd += count;
        _position = _fillEnd;
        return count;
    }

    /// <summary>Sends what is gathered, then takes a fresh buffer that starts at the position's block.</summary>
    private async ValueTask BeginFillAsync(bool synchronously, CancellationToken cancellation)
    {
        await SubmitAsync(synchronously, cancellation).ConfigureAwait(false);
        while (_window.TryDequeue(out StreamBuffer? dropped)) { Release(dropped); } // what was read ahead would be old
        StreamBuffer? buffer;
        while (!TryTakeBuffer(out buffer))
        {
            await WaitFor(buffer!, synchronously, cancellation).ConfigureAwait(false);
        }
        ThrowWriteError();
        buffer!.First = _position & ~_blockMask;
        (_filling, _fillFirst, _fillEnd) = (buffer, _position, _position);
        buffer.Purpose = StreamBuffer.Use.Window; // ours alone until it is sent
    }

    private async ValueTask SubmitAsync(bool synchronously, CancellationToken cancellation)
    {
        if (_filling is not { } buffer) { return; }
        long end = (_fillEnd + _blockMask) & ~_blockMask;
        bool startsInside = _fillFirst != buffer.First;
        bool endsInside = end != _fillEnd;
        if (startsInside || endsInside)
        {
            // The other bytes of a partly written block must be the newest ones: everything sent before comes first.
            await SettleSentAsync(synchronously, cancellation).ConfigureAwait(false);
            if (startsInside)
            {
                await CompleteBlockAsync(buffer, buffer.First, _fillFirst, synchronously, cancellation)
                    .ConfigureAwait(false);
            }
            if (endsInside)
            {
                await CompleteBlockAsync(buffer, _fillEnd, end, synchronously, cancellation).ConfigureAwait(false);
            }
        }
        _filling = null;
        (buffer.Length, buffer.Purpose) = ((int)(end - buffer.First), StreamBuffer.Use.Write);
        _writes++;
        ulong block = (ulong)buffer.First >> _target.BlockSizeLog2;
        buffer.Begin(_target.WriteAsync(block, buffer.Memory, 0, (uint)buffer.Length, CancellationToken.None));
    }

    /// <summary>
    /// Fills the bytes from <paramref name="first"/> up to <paramref name="end"/>, all of one block, from the disk.
    /// </summary>
    private async ValueTask CompleteBlockAsync(
        StreamBuffer into, long first, long end, bool synchronously, CancellationToken cancellation)
    {
        long block = first & ~_blockMask;
        StreamBuffer scratch = _scratch ??= new(Mdl.Allocate(_controller.Platform, 4096));
        await WaitFor(scratch, synchronously, cancellation).ConfigureAwait(false); // of a call that was cancelled here
        // Not the caller's token: who cancels leaves the wait, and the next call finds the request where it is.
        scratch.Begin(_target.ReadAsync(
            (ulong)block >> _target.BlockSizeLog2, scratch.Memory, 0, (uint)_blockMask + 1, CancellationToken.None));
        await WaitFor(scratch, synchronously, cancellation).ConfigureAwait(false);
        if (scratch.Error is { } error) { throw new IOException(error.Message, error); }
        for (long at = first; at < end;)
        {
            ReadOnlySpan<byte> bytes = scratch.Memory.GetSpan((uint)(at - block));
            int count = (int)Math.Min(bytes.Length, end - at);
            into.Memory.CopyFrom((uint)(at - into.First), bytes[..count]);
            at += count;
        }
    }

    private async ValueTask SettleWritesAsync(bool synchronously, CancellationToken cancellation)
    {
        await SubmitAsync(synchronously, cancellation).ConfigureAwait(false);
        await SettleSentAsync(synchronously, cancellation).ConfigureAwait(false);
        ThrowWriteError();
    }

    private async ValueTask SettleSentAsync(bool synchronously, CancellationToken cancellation)
    {
        for (int i = 0; i < _buffers.Count; i++)
        {
            StreamBuffer buffer = _buffers[i];
            if (buffer.Purpose != StreamBuffer.Use.Write) { continue; }
            await WaitFor(buffer, synchronously, cancellation).ConfigureAwait(false);
            if (buffer.Purpose == StreamBuffer.Use.Write) { EndWrite(buffer); }
        }
    }

    private ValueTask WaitFor(StreamBuffer buffer, bool synchronously, CancellationToken cancellation)
    {
        if (!synchronously) { return buffer.WaitAsync(cancellation); }
        Wait(buffer);
        return default;
    }

    private void EndWrite(StreamBuffer buffer)
    {
        _writes--;
        _writeError ??= buffer.Error;
        buffer.Purpose = StreamBuffer.Use.Idle;
    }

    private void ThrowWriteError()
    {
        if (_writeError is not { } error) { return; }
        _writeError = null;
        ExceptionDispatchInfo.Throw(error);
    }
}
