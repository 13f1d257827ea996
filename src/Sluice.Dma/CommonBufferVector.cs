namespace Sluice.Dma;

/// <summary>
/// Equal common buffers made in one call, found by index. Free them one by one or all at once; misuse is a clear line.
/// </summary>
/// <remarks>Safe from any thread. A buffer that is never freed is reported as leaked when the adapter ends.</remarks>
public sealed class CommonBufferVector : IDisposable
{
    private readonly string _owner;
    private readonly CommonBuffer?[] _buffers;
    private int _live;

    internal CommonBufferVector(string owner, CommonBuffer?[] buffers, ulong elementLength) =>
        (_owner, _buffers, _live, ElementLength) = (owner, buffers, buffers.Length, elementLength);

    /// <summary>Buffers it was made with.</summary>
    public int Count => _buffers.Length;

    /// <summary>Buffers not freed yet.</summary>
    public int Live => Volatile.Read(ref _live);

    /// <summary>Bytes in each.</summary>
    public ulong ElementLength { get; }

    /// <summary>One buffer. It is freed through the vector, not disposed by itself.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such index.</exception>
    /// <exception cref="InvalidOperationException">It was freed.</exception>
    public CommonBuffer this[int index] => Volatile.Read(ref At(index)) is { IsLive: true } buffer
        ? buffer
        : throw new InvalidOperationException($"common buffer {index} of a vector of {_owner} was freed");

    /// <summary>Frees one buffer.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such index.</exception>
    /// <exception cref="InvalidOperationException">It was freed already.</exception>
    public void Free(int index)
    {
        if (Interlocked.Exchange(ref At(index), null) is not { } buffer)
        {
            throw new InvalidOperationException($"common buffer {index} of a vector of {_owner} was freed already");
        }
        Interlocked.Decrement(ref _live);
        if (!buffer.IsLive)
        {
            throw new InvalidOperationException(
                $"common buffer {index} of a vector of {_owner} was disposed by itself, or its adapter was");
        }
        buffer.Dispose();
    }

    /// <summary>Frees every buffer that is left. Harmless twice.</summary>
    public void FreeAll()
    {
        for (int i = 0; i < _buffers.Length; i++)
        {
            if (Interlocked.Exchange(ref _buffers[i], null) is not { } buffer) { continue; }
            Interlocked.Decrement(ref _live);
            buffer.Dispose();
        }
    }

    /// <summary>Ends a vector whose buffers were all freed: for drivers that keep count.</summary>
    /// <exception cref="InvalidOperationException">Some were not.</exception>
    public void Close()
    {
        if (Live != 0)
        {
            throw new InvalidOperationException(
                $"a vector of {_owner} still has {Live} of {Count} common buffers: free them first");
        }
    }

    /// <summary>Frees every buffer that is left, as <see cref="FreeAll"/> does.</summary>
    public void Dispose() => FreeAll();

    private ref CommonBuffer? At(int index)
    {
        if ((uint)index >= (uint)_buffers.Length)
        {
            throw new ArgumentOutOfRangeException(nameof(index),
                $"a vector of {_owner} has common buffers 0 to {_buffers.Length - 1}, and not {index}");
        }
        return ref _buffers[index];
    }
}
