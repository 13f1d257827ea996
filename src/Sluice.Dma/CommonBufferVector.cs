using System.Runtime.InteropServices;

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
    private int _ended;

    internal CommonBufferVector(DmaAdapter adapter, CommonBuffer?[] buffers, ulong elementLength)
    {
        (Adapter, _owner) = (adapter, $"{adapter.Driver} {adapter.Device}");
        (_buffers, _live, ElementLength) = (buffers, buffers.Length, elementLength);
        foreach (CommonBuffer? buffer in buffers) { buffer!.IsOfVector = true; }
    }

    internal DmaAdapter Adapter { get; }

    /// <summary>Buffers it was made with.</summary>
    public int Count => _buffers.Length;

    /// <summary>Buffers not freed yet.</summary>
    public int Live => Volatile.Read(ref _live);

    /// <summary>Bytes in each.</summary>
    public ulong ElementLength { get; }

    /// <summary>One buffer. It is freed through the vector, not disposed by itself.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such index.</exception>
    /// <exception cref="InvalidOperationException">It was freed.</exception>
    public CommonBuffer this[int index]
    {
        get
        {
            if (Volatile.Read(ref At(index)) is { IsLive: true } buffer) { return buffer; }
            Break(VerificationRule.UsedAfterFree, $"common buffer {index} of a vector is asked for after its free");
            throw new InvalidOperationException($"common buffer {index} of a vector of {_owner} was freed");
        }
    }

    /// <summary>Frees one buffer.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such index.</exception>
    /// <exception cref="InvalidOperationException">It was freed already.</exception>
    public void Free(int index)
    {
        if (Interlocked.Exchange(ref At(index), null) is not { } buffer)
        {
            Break(VerificationRule.CommonBufferFreedTwice, $"common buffer {index} of a vector is freed again");
            throw new InvalidOperationException($"common buffer {index} of a vector of {_owner} was freed already");
        }
        Interlocked.Decrement(ref _live);
        if (!buffer.IsLive)
        {
            Break(VerificationRule.CommonBufferFreedTwice,
                $"common buffer {index} of a vector is freed and was disposed by itself");
            throw new InvalidOperationException(
                $"common buffer {index} of a vector of {_owner} was disposed by itself, or its adapter was");
        }
        buffer.Dispose();
    }

    /// <summary>Frees every buffer that is left. Harmless twice.</summary>
    /// <remarks>All of them, whatever one's end throws; what the first threw comes out at the end.</remarks>
    public void FreeAll()
    {
        List<CommonBuffer> left = [];
        for (int i = 0; i < _buffers.Length; i++)
        {
            if (Interlocked.Exchange(ref _buffers[i], null) is not { } buffer) { continue; }
            Interlocked.Decrement(ref _live);
            left.Add(buffer);
        }
        EveryStep.ForEach(CollectionsMarshal.AsSpan(left), static buffer => buffer.Dispose());
    }

    /// <summary>Ends a vector whose buffers were all freed: for drivers that keep count.</summary>
    /// <exception cref="InvalidOperationException">Some were not.</exception>
    public void Close()
    {
        if (Live != 0)
        {
            Break(VerificationRule.StillInUse, $"a vector is freed before {Live} of its {Count} common buffers");
            throw new InvalidOperationException(
                $"a vector of {_owner} still has {Live} of {Count} common buffers: free them first");
        }
    }

    /// <summary>Frees every buffer that is left, as <see cref="FreeAll"/> does.</summary>
    public void Dispose() => FreeAll();

    /// <summary>Whether this is its first end.</summary>
    internal bool TryEnd() => Interlocked.Exchange(ref _ended, 1) == 0;

    // Throws if asked; else the caller does.
    private void Break(VerificationRule rule, string line)
    {
        if (Adapter.Verifier is null) { return; }
        Adapter.Verifier.Note(rule, 0, line, default);
        DmaVerifier.Conclude();
    }

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
